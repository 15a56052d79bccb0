"""Tasks, samples, models, closed forms, the catalogue, and errors."""
import numpy as np
import pytest

import lamina
from conftest import SMALL, same_bits


def test_list_and_describe():
    assert {"in_context_recall", "text_recall"} <= set(lamina.list())
    assert "lambda" in lamina.list("probes") and "bayes_risk" in lamina.list("theory")
    described = lamina.describe("in_context_recall")
    assert described["noise"].default == "0.5" and described["noise"].owner == "task" and described["steps"].default == "400"
    assert described["attention"].words == ("softmax", "linear", "relu")
    text = repr(described)
    assert "2505.15009" in text and all(name in text for name in described)
    assert max(map(len, text.splitlines())) <= 110
    assert "h(alpha)" in repr(lamina.describe("binary_entropy"))
    assert lamina.describe("noise").summary == described["noise"].summary
    with pytest.raises(ValueError, match="name is 'nonsense'"):
        lamina.describe("nonsense")
    with pytest.raises(ValueError, match="must be one of tasks, probes, theory"):
        lamina.list("nonsense")


def test_the_library_names_itself():
    assert lamina.version() and "reference" in lamina.instruction_sets() and "xsimd" in lamina.build_info()


@pytest.mark.parametrize("call, text", [
    (lambda: lamina.run(noise=2), "noise is 2"),
    (lambda: lamina.run(nois=0.5), '"nois" is not an option'),
    (lambda: lamina.run("nothing"), "nothing"),
    (lambda: lamina.run(attention="cubic"), "softmax"),
    (lambda: lamina.load("/nowhere/run.safetensors"), "/nowhere/run.safetensors"),
    (lambda: lamina.theory("nothing"), "nothing"),
    (lambda: lamina.theory("binary_entropy"), "argument_count is 0"),
    (lambda: lamina.Run(**SMALL).predict([[0, 99]]), r"prompts"),
])
def test_errors_carry_the_library_text(call, text):
    with pytest.raises(lamina.Error, match=text) as caught:
        call()
    assert caught.value.status < 0 and caught.value.status_name.startswith("LAMINA_E_") and caught.value.text == str(caught.value)
    assert caught.value.text.startswith("lamina_")


def test_options_of_every_kind(small, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat and the dog and the bird saw the cat " * 50)
    run = lamina.run("text_recall", file=text, vocabulary=8, triggers=1, unseen_outputs=1, prompt_length=32, samples=32, steps=2,
                     evaluation_samples=16)
    assert run.step == 2 and " " in run.task.tokens
    small.pop("outputs")
    weighted = lamina.Task(vocabulary=20, triggers=3, outputs=5, prompt_length=24, occurrences=3, unseen_outputs=3,
                           trigger_weights=np.array([1.0, 0.0001, 0.0001]))
    assert np.mean(weighted.sample(200).prompts[:, -1] == 0) > 0.9
    assert lamina.run(**SMALL, estimate_noise=False, seed=np.int64(3), isa=None).step == 20
    with pytest.raises(TypeError, match="option noise is"):
        lamina.run(noise=object())
    with pytest.raises(TypeError, match="steps is an option of the trainer"):
        lamina.Task(steps=3)
    with pytest.raises(TypeError, match="noise is an option of the task, which is made already"):
        lamina.run(lamina.Task(), noise=0.2)


def test_sample():
    task = lamina.Task(noise=0.5)
    prompts, targets = task.sample(50, seed=7)
    assert prompts.shape == (50, 256) and targets.shape == (50, 2) and prompts.dtype == np.int64
    assert same_bits(prompts[20:30], task.sample(10, seed=7, first=20).prompts)
    assert same_bits(prompts, lamina.sample("in_context_recall", 50, seed=7, noise=0.5).prompts)
    for row, (label, answer) in zip(prompts, targets):
        after = row[1:][row[:-1] == row[-1]]
        assert answer in after and set(after) <= {answer, task.tau} and label in (answer, task.tau)
    assert not set(task.sample(50, split="unseen").answers) & set(targets[:, 1])
    assert task.tokens[-1] == "tau" and len(task.tokens) == 61
    assert same_bits(task.encode(task.decode(prompts)), prompts)
    with pytest.raises(ValueError, match="'q99' is not a token"):
        task.encode(["q99"])
    with pytest.raises(ValueError, match="split is 'valid'"):
        task.sample(1, split="valid")
    with pytest.raises(ValueError, match="infinite"):
        lamina.Task(prompt_length=float("inf")).sample(1)


def test_targets_that_are_laws_and_tokens_without_tau():
    task = lamina.Task("causal_structure", vocabulary=4, prompt_length=6)
    prompts, laws = task.sample(20)
    assert laws.shape == (20, 4) and np.allclose(laws.sum(axis=1), 1) and prompts.max() < 4
    assert task.tokens == ("s0", "s1", "s2", "s3") and repr(task).endswith("out of 4>")
    model = lamina.Model(task)
    assert np.allclose(model.predict(prompts).sum(axis=1), 1)
    loss, gradient = model.loss_gradient(prompts, laws)
    assert loss > 0 and gradient["A1"].shape == (6, 6)
    with pytest.raises(ValueError, match="must be .20, 4."):
        model.loss_gradient(prompts, laws[:, :2])
    assert len(lamina.Task("next_token").tokens) == 12


def test_own_arrays_are_the_named_task(small):
    named = lamina.Task(**{key: small[key] for key in ("vocabulary", "triggers", "outputs", "unseen_outputs", "prompt_length",
                                                       "occurrences")}, noise=0.5)
    prompts, targets = named.sample(small["samples"])
    own = lamina.Task.from_arrays(prompts, targets, vocabulary=20, noise=0.5)
    options = dict(samples=small["samples"], steps=20, probes="none")
    a, b = lamina.run(own, **options), lamina.run(named, **options)
    assert same_bits(a.trajectory["loss"], b.trajectory["loss"])
    assert same_bits(own.sample(5).prompts, prompts[:5]) and same_bits(own.sample(3, first=64).prompts, prompts[:3])
    noiseless = lamina.Task.from_arrays([[0, 3, 1, 0]], [3], vocabulary=5)
    assert noiseless.sample(1).targets.tolist() == [[3, 3]]
    with pytest.raises(lamina.Error, match=r"prompts.*9"):
        lamina.Task.from_arrays([[0, 9, 1, 0]], [3], vocabulary=5)
    with pytest.raises(ValueError, match=r"must be \(1, 2\) or \(1,\)"):
        lamina.Task.from_arrays([[0, 3, 1, 0]], [3, 3], vocabulary=5)


def test_own_sampler_is_the_named_task(small):
    named = lamina.Task(vocabulary=20, triggers=3, outputs=5, unseen_outputs=3, prompt_length=24, occurrences=3)
    calls = []

    def sampler(split, seed, first, count):
        calls.append((split, first, count))
        return named.sample(count, split=split, seed=seed, first=first)

    own = lamina.Task.from_callback(sampler, length=24, vocabulary=20, noise=0.5)
    # The library cannot know which tokens of an own task are triggers; a model without ties has no use for them.
    options = dict(data="fresh", batch=32, steps=20, probes="none", variant="original", initialisation="gaussian")
    a, b = lamina.run(own, **options), lamina.run(named, **options)
    assert same_bits(a.trajectory["loss"], b.trajectory["loss"])
    assert ("train", 32, 32) in calls
    assert own.sample(2, split="unseen").prompts.shape == (2, 24)


def test_what_a_sampler_raises_comes_out():
    def fail(split, seed, first, count):
        raise LookupError("no more prompts")

    task = lamina.Task.from_callback(fail, length=4, vocabulary=6)
    with pytest.raises(LookupError, match="no more prompts"):
        task.sample(1)
    with pytest.raises(LookupError, match="no more prompts"):
        lamina.run(task)
    fresh = lamina.Run(task, data="fresh", samples=4, evaluation_samples=4, probes="none", progress=False)
    with pytest.raises(LookupError, match="no more prompts"):
        fresh.continue_()
    assert fresh.step == 0
    bad = lamina.Task.from_callback(lambda *_: ([[0, 1, 2, 77]], [[1, 1]]), length=4, vocabulary=6)
    with pytest.raises(lamina.Error, match="77"):
        bad.sample(1)
    interrupted = lamina.Task.from_callback(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), length=4, vocabulary=6)
    with pytest.raises(KeyboardInterrupt):
        interrupted.sample(1)


def test_saved_run_of_an_own_task_needs_it_again(tmp_path):
    task = lamina.Task.from_arrays([[0, 3, 1, 0], [1, 4, 2, 1]], [3, 4], vocabulary=5)
    whole = lamina.run(task, samples=2, evaluation_samples=2, steps=6)
    lamina.Run(task, samples=2, evaluation_samples=2, steps=6).continue_(3).save(tmp_path / "run")
    with pytest.raises(lamina.Error, match="host's own task"):
        lamina.load(tmp_path / "run")
    assert same_bits(lamina.load(tmp_path / "run", task).continue_().trajectory["loss"], whole.trajectory["loss"])


def test_parameters_go_in_and_out(small):
    model = lamina.Model(**small, variant="original", initialisation="gaussian")
    assert set(model.parameters) >= {"W", "V", "U"}
    given = {name: np.arange(array.size, dtype=float).reshape(array.shape) / 7 for name, array in model.parameters.items()}
    model.parameters = given
    for name, array in given.items():
        assert same_bits(model.parameters[name], array)
    other = model.copy()
    other.parameters["W"] = 0
    assert not other.parameters["W"].any() and same_bits(model.parameters["W"], given["W"])
    model.parameters["W"] = np.asfortranarray(given["W"] + 1)
    assert model.parameters["W"][1, 2] == given["W"][1, 2] + 1
    with pytest.raises(ValueError, match="read-only"):
        model.parameters["W"][0, 0] = 1
    with pytest.raises(ValueError, match=r"parameter W has shape \(42, 42\)"):
        model.parameters["W"] = np.zeros(3)
    with pytest.raises(KeyError, match="'X' is not a parameter"):
        model.parameters["X"] = 1
    with pytest.raises(lamina.Error, match="values"):
        model.parameters["W"] = np.nan
    started = lamina.Run(model=model, variant="original", **small)
    assert same_bits(started.parameters["V"], given["V"])
    with pytest.raises(TypeError, match=r"model = run.model\(\)"):
        started.parameters["V"] = 0


def test_model_is_the_mathematics(small):
    """The tied model of the paper's section 2 on a prompt of four tokens: xi_y = lambda n_y, xi_tau = lambda n_y + ln(a/(1-a))."""
    model = lamina.Model(**small, noise=0.3, initialisation="n1_star")
    model.parameters["lambda"] = 1.5
    logits = model.predict([1, 4, 9, 1, 20, 12, 1, 4, 1])
    expected = np.zeros(21)
    expected[4], expected[20] = 3, 3 + np.log(0.3 / 0.7)
    np.testing.assert_allclose(logits, expected, atol=1e-12)
    assert model.predict([[1, 4, 1], [1, 5, 1]], part="attention").argmax(1).tolist() == [4, 5]
    np.testing.assert_allclose(model.attention([1, 4, 9, 1, 20, 12, 1, 4, 1])[[1, 4, 7]], 1.5)
    assert same_bits(model.predict(["q1", "o1", "q1"]), model.predict([1, 4, 1]))
    with pytest.raises(ValueError, match="part is 'everything'"):
        model.predict([1, 4, 1], part="everything")
    with pytest.raises(ValueError, match="3 dimensions"):
        model.predict(np.zeros((1, 2, 3)))


@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_loss_gradient_is_the_difference_quotient(small, attention):
    model = lamina.Model(**small, variant="original", initialisation="gaussian", initial_scale=0.3, attention=attention)
    prompts, targets = model.task.sample(8)
    loss, gradient = model.loss_gradient(prompts, targets)
    logits = model.predict(prompts)
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), targets[:, 0]]
    assert loss == pytest.approx(entropy.mean(), rel=1e-12)
    rng = np.random.default_rng(0)
    for name in ("W", "V", "U"):
        direction, h = rng.normal(size=gradient[name].shape), 1e-5
        here, losses = model.parameters[name], []
        for sign in (1, -1):
            moved = model.copy()
            moved.parameters[name] = here + sign * h * direction
            losses.append(lamina.loss_gradient(moved, prompts, targets)[0])
        assert (gradient[name] * direction).sum() == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6, abs=1e-9)


def test_theory():
    assert lamina.theory("bayes_risk", noise=0.2) == pytest.approx(0.500402423538188, rel=1e-14)
    np.testing.assert_allclose(lamina.theory("population_excess", [[0.5, 1], [2, 4]], noise=0.5),
                               [[2.62195023, 1.92626246], [1.00789218, 0.24020155]], atol=1e-8)
    assert lamina.theory("first_step").shape == (3,)
    assert lamina.theory("binary_entropy", 0.5) == pytest.approx(np.log(2))
    with pytest.raises(TypeError, match="reads no task"):
        lamina.theory("binary_entropy", 0.5, noise=0.5)


def test_theory_of_a_matrix():
    q = np.arange(9.0).reshape(3, 3) / 9
    gradient = lamina.theory("population_gradient", q, features=3)
    assert gradient.shape == (3, 3)
    for place in [(0, 0), (0, 2), (2, 1)]:
        step = np.zeros((3, 3))
        step[place] = 1e-5
        up, down = (lamina.theory("population_loss", q + sign * step, features=3) for sign in (1, -1))
        assert gradient[place] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-9)
    assert lamina.theory("loss_infimum") >= 0
    with pytest.raises(TypeError, match="population_loss takes one array, 0 arguments"):
        lamina.theory("population_loss")


def test_tasks_of_vectors():
    run = lamina.run("linear_regression", step_size=0.1, steps=200)
    assert run.trajectory["u"][-1] == pytest.approx(1.311508, abs=1e-6)
    shifted = lamina.theory("covariate_shift_risk", [100, 2, 2, 2, 2, 2], task="linear_regression", prompt_length=100)
    assert shifted == pytest.approx(10, abs=1e-3)
    # A prompt is x_1, y_1, .., x_N, y_N, x_query; the query's scores x_n^T U x_query / N stand where an x begins.
    task = lamina.Task("linear_regression", dimension=2, prompt_length=3)
    model, drawn = lamina.Model(task), task.sample(4)
    u, matrix = model.parameters["u"], model.parameters["U"]
    x, y = drawn.prompts.reshape(4, -1)[:, [0, 1, 3, 4, 6, 7, 9, 10]].reshape(4, 4, 2), drawn.prompts[:, [2, 5, 8]]
    scores = np.einsum("bni,ij,bj->bn", x, matrix, x[:, 3]) / 3
    weights = model.attention(drawn.prompts)
    np.testing.assert_allclose(weights[:, ::3], scores, atol=1e-14)
    assert np.count_nonzero(weights) == scores.size
    yhat = u * np.einsum("bn,bn->b", scores[:, :3], y)
    np.testing.assert_allclose(model.predict(drawn.prompts)[:, 0], yhat, atol=1e-14)
    assert model.loss_gradient(drawn.prompts, drawn.targets)[0] == pytest.approx(0.5 * np.mean((yhat - drawn.targets[:, 0]) ** 2))


def test_sequences_of_complex_vectors():
    task = lamina.Task("mesa_optimisation", dimension=2, prompt_length=5)
    sequence = task.sample(1).prompts.reshape(5, 2, 2) @ [1, 1j]
    scale = lamina.Model(task, initial_scale=0.5, value_scale=0.8)
    gram = sum(np.outer(x, x.conj()) for x in sequence[:-1]) / 4
    turn = np.diag(sequence[1] / sequence[0])
    predicted = scale.predict(task.sample(1).prompts).reshape(2, 2) @ [1, 1j]
    np.testing.assert_allclose(predicted, 0.4 * turn @ gram @ sequence[-1], atol=1e-13)
