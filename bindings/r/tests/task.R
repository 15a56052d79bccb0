# Tasks: samples, one's own matrix, one's own function, and what the catalogue says.
library(lamina)

# Prompt i depends on seed, split and i alone; the query ends the prompt, its answer followed it before.
task <- lamina_task("in_context_recall", prompt_length = 64, noise = 0.4)
ten <- lamina_sample(task, 10, "test", seed = 3)
stopifnot(identical(lamina_sample(task, 4, "test", seed = 3, first = 6), list(prompts = ten$prompts[7:10, ], targets = ten$targets[7:10, ])))
stopifnot(is.integer(ten$prompts), identical(dim(ten$prompts), c(10L, 64L)), identical(colnames(ten$targets), c("label", "answer")))
stopifnot(!identical(ten, lamina_sample(task, 10, "test", seed = 4)), !identical(ten, lamina_sample(task, 10, seed = 3)))
for (i in 1:10) {
  prompt <- ten$prompts[i, ]
  after <- prompt[which(prompt[-64] == prompt[64]) + 1]
  stopifnot(ten$targets[i, "answer"] %in% after, all(after %in% c(ten$targets[i, "answer"], 60L)))
}
names <- lamina_tokens(task)
stopifnot(length(names) == 61, identical(names[c(1, 61)], c("q0", "tau")), !anyDuplicated(names))

# A matrix of prompts gives the run that the task gives, where both descend the same data.
data <- lamina_sample(task, 100)
own <- lamina_task_from_matrix(data$prompts, data$targets[, 1], data$targets[, 2], vocabulary = 60, noise = 0.4)
shared <- function(task) lamina_run(task, samples = 100, steps = 30, probes = "none", evaluation_samples = 10, estimate_noise = "no")
a <- as.data.frame(shared(own))
b <- as.data.frame(shared(task))
stopifnot(max(abs(a - b)) < 1e-12)
stopifnot(identical(lamina_sample(own, 3, first = 99)$prompts, data$prompts[c(100, 1, 2), ]))

# So does a function that draws the same prompts; it is called on R's thread, with names for splits. (Without noise: a law
# that the library does not know may query any token, and the held feed-forward part tells queries from other tokens.)
task <- lamina_task("in_context_recall", prompt_length = 64, noise = 0)
b <- as.data.frame(shared(task))
calls <- 0
sampler <- function(split, seed, first, count) {
  calls <<- calls + 1
  stopifnot(split %in% c("train", "test", "unseen"))
  lamina_sample(task, count, split, seed, first)
}
drawn <- lamina_task_from_function(sampler, length = 64, vocabulary = 60)
run <- lamina_run(drawn, samples = 100, steps = 30, probes = "none", evaluation_samples = 10, estimate_noise = "no")
stopifnot(calls >= 1, max(abs(as.data.frame(run) - b)) < 1e-12)
stopifnot(identical(lamina_sample(drawn, 5, "unseen", seed = 2, first = 7), lamina_sample(task, 5, "unseen", seed = 2, first = 7)))
fresh <- lamina_run(drawn, data = "fresh", batch = 20, steps = 10, probes = "none")
stopifnot(fresh$status == "LAMINA_OK", nrow(as.data.frame(fresh)) == 11)

# Its errors are R's errors, where it is called first and in the middle of a run, and the session goes on.
mine <- simpleCondition("mine")
class(mine) <- c("my_error", "error", "condition")
broken <- lamina_task_from_function(function(...) stop(mine), 8, 10)
caught <- tryCatch(lamina_run(broken, samples = 4), my_error = function(e) e)
stopifnot(identical(caught, mine))
left <- 5
late <- lamina_task_from_function(function(split, seed, first, count) {
  left <<- left - 1
  if (left < 0) stop(mine)
  lamina_sample(task, count, split, seed, first)
}, 64, 60)
trainer <- lamina_trainer(late, data = "fresh", batch = 8, steps = 100, probes = "none")
caught <- tryCatch(lamina_continue(trainer), my_error = function(e) e)
stopifnot(identical(caught, mine))
left <- Inf
stopifnot(lamina_continue(trainer)$step == 100)
short <- lamina_task_from_function(function(split, seed, first, count) list(prompts = matrix(0, count, 3), targets = matrix(0, count, 2)), 8, 10)
stopifnot(grepl("must be 2 and 8", tryCatch(lamina_sample(short, 2), lamina_error = conditionMessage)))
outside <- lamina_task_from_function(function(split, seed, first, count) list(prompts = matrix(99, count, 8), targets = matrix(0, count, 2)), 8, 10)
stopifnot(grepl("prompts\\[0\\]\\[0\\] is 99", tryCatch(lamina_sample(outside, 2), lamina_error = conditionMessage)))

# A matrix as an option is handed over row after row: the answers of trigger 0 and of trigger 1 have laws of their own.
laws <- rbind(c(1, 0, 0), c(0, 0, 1))
lawful <- lamina_task("in_context_recall", vocabulary = 10, triggers = 2, outputs = 3, unseen_outputs = 0, prompt_length = 20,
                      output_weights = laws)
many <- lamina_sample(lawful, 50)
stopifnot(all(many$targets[many$prompts[, 20] == 0, "answer"] == 2), all(many$targets[many$prompts[, 20] == 1, "answer"] == 4))

# Text: characters of a file.
text <- tempfile()
writeLines(rep("the quick brown fox jumps over the lazy dog, and the dog sleeps", 50), text)
spoken <- lamina_task("text_recall", file = text, vocabulary = 26, triggers = 3, unseen_outputs = 4, prompt_length = 64)
stopifnot(" " %in% lamina_tokens(spoken) || any(grepl("e", lamina_tokens(spoken))), ncol(lamina_sample(spoken, 2)$prompts) == 64)

# The catalogue.
stopifnot("in_context_recall" %in% lamina_list()$name, "lambda" %in% lamina_list("probes")$name)
options <- lamina_describe("in_context_recall")
stopifnot(options$default[options$name == "noise"] == "0.5", setequal(options$owner, c("task", "model", "trainer")))
stopifnot(lamina_describe("bayes_risk")$signature == "-> risk", lamina_describe("lambda")$name == "lambda")
noise <- lamina_describe("noise")
stopifnot(nrow(noise) == 1, noise$default == "0.5", any(grepl("alpha", capture.output(print(noise)))))
described <- capture.output(print(options), print(lamina_list()), print(lamina_list("theory")), print(lamina_info()))
stopifnot(any(grepl("^  noise = 0.5  \\(number in \\[0, 1\\]\\)", described)), lamina_info()$isa[length(lamina_info()$isa)] == "reference")
stopifnot(identical(lamina_describe(run), lamina_describe("callback")), is.data.frame(options[1:3, c("name", "default")]))

# Forms of a matrix take it whole, and read the task that they are of.
Q <- matrix(1:9 / 9, 3, 3)
slope <- lamina_theory("population_gradient", Q, features = 3)
stopifnot(identical(dim(slope), c(3L, 3L)), lamina_theory("loss_infimum") >= 0)
for (at in c(1, 6)) {
  step <- matrix(0, 3, 3)
  step[at] <- 1e-5
  quotient <- (lamina_theory("population_loss", Q + step, features = 3) - lamina_theory("population_loss", Q - step, features = 3)) / 2e-5
  stopifnot(abs(slope[at] - quotient) < 1e-6 * abs(quotient) + 1e-9)
}
# Of several things, in one vector.
shifted <- lamina_theory("covariate_shift_risk", c(100, rep(2, 5)), task = "linear_regression", prompt_length = 100)
limit <- lamina_theory("limit_matrices", c(1, diag(5) / sqrt(5)), task = "linear_regression", prompt_length = 20)
stopifnot(abs(shifted - 10) < 1e-3, length(limit) == 26, abs(limit[1:2] - c(1.311508, .586524)) < 1e-6)
stopifnot(grepl("takes one array", tryCatch(lamina_theory("conserved_quantity", 1, 2, task = "linear_regression"), error = conditionMessage)))

# Tasks of vectors cross as numbers.
flow <- lamina_run("linear_regression", step_size = 0.1, steps = 200)
stopifnot(abs(tail(as.data.frame(flow)$U_0, 1) - .586524) < 1e-6)
sequences <- lamina_sample(lamina_task("mesa_optimisation", dimension = 2, prompt_length = 3), 2)
stopifnot(length(sequences$prompts) == 24, is.double(sequences$prompts), all(sequences$targets == 0))


# Targets that are laws, tokens without tau.
causal <- lamina_task("causal_structure", vocabulary = 4, prompt_length = 6)
drawn <- lamina_sample(causal, 20)
stopifnot(identical(dim(drawn$targets), c(20L, 4L)), all(abs(rowSums(drawn$targets) - 1) < 1e-14), max(drawn$prompts) < 4)
stopifnot(identical(lamina_tokens(causal), c("s0", "s1", "s2", "s3")), grepl("tokens 0..3$", utils::capture.output(print(causal))))
model <- lamina_model(causal)
stopifnot(identical(dim(lamina_loss_gradient(model, drawn$prompts, drawn$targets)$gradient$A1), c(6L, 6L)))
stopifnot(inherits(try(lamina_loss_gradient(model, drawn$prompts, drawn$targets[, 1:2]), silent = TRUE), "try-error"))
