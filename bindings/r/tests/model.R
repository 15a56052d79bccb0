# Parameters as named arrays, predictions and gradients on prompts of one's own.
library(lamina)

for (variant in c("full", "w_free", "uv_free", "original")) {
  model <- lamina_model("in_context_recall", variant = variant, vocabulary = 12, triggers = 2, outputs = 4, unseen_outputs = 2,
                        initialisation = "gaussian", prompt_length = 16, occurrences = 3, seed = 5)
  values <- parameters(model)
  copy <- model
  parameters(copy) <- lapply(values, function(x) x * 0 + seq_along(x) / length(x))
  again <- parameters(copy)
  stopifnot(identical(names(again), names(values)), identical(parameters(model), values))
  for (name in names(values)) {
    shape <- dim(values[[name]])
    stopifnot(identical(dim(again[[name]]), shape))
    stopifnot(identical(as.vector(again[[name]]), seq_along(values[[name]]) / length(values[[name]])))
  }
  parameters(copy) <- values
  stopifnot(identical(parameters(copy), values))
}

# W[i, j] of R is W[i, j] of the mathematics. Tokens are 0..11 and tau = 12, K = 13; the score of the key (previous token p,
# token z) for the query q is W[E(q), E(z)] + W[E(q), Et(p)], with rows and columns E then Et.
stopifnot(identical(dim(values$W), c(26L, 26L)))
drawn <- lamina_sample(model, 6, "test", seed = 9)
stopifnot(identical(dim(drawn$prompts), c(6L, 16L)), all(drawn$prompts[, 16] < 2))
W <- matrix(0, 26, 26)
W[1 + 0, 1 + 13 + 0] <- 1
W[1 + 1, 1 + 13 + 1] <- 2
parameters(model) <- list(W = W)
weights <- predict(model, drawn$prompts, "weights")
previous <- cbind(-1, drawn$prompts[, -16])
expected <- (previous == drawn$prompts[, 16]) * (1 + drawn$prompts[, 16])
stopifnot(identical(dim(weights), dim(drawn$prompts)), max(abs(weights - expected)) < 1e-14)

# The gradient against differences, and its shapes.
set.seed(1)
parameters(model) <- lapply(parameters(model), function(x) { x[] <- rnorm(length(x), 0, 0.3); x })
loss <- function(m) lamina_loss_gradient(m, drawn$prompts, drawn$targets)$loss
gradient <- lamina_loss_gradient(model, drawn$prompts, drawn$targets)$gradient
values <- parameters(model)
stopifnot(identical(names(gradient), names(values)), identical(lapply(gradient, dim), lapply(values, dim)))
checked <- 0
for (name in names(coef(model))) {
  strongest <- order(-abs(gradient[[name]]))[1:3]
  for (i in strongest) {
    h <- 1e-5
    changed <- function(by) {
      moved <- model
      value <- values[[name]]
      value[i] <- value[i] + by
      parameters(moved) <- setNames(list(value), name)
      loss(moved)
    }
    difference <- (changed(h) - changed(-h)) / (2 * h)
    stopifnot(abs(gradient[[name]][i]) > 1e-6, abs(difference / gradient[[name]][i] - 1) < 1e-5)
    checked <- checked + 1
  }
}
stopifnot(checked >= 9)

# The gold vector of the construction: tokens 0..3, tau = 4, trigger 0, answer 2, lambda = 1.5, noise 0.3.
task <- lamina_task("in_context_recall", vocabulary = 4, triggers = 1, outputs = 2, unseen_outputs = 0, prompt_length = 9,
                    noise = 0.3, occurrences = 2)
gold <- lamina_model(task, initialisation = "n1_star", initial_scale = 1.5)
prompt <- c(0, 2, 3, 0, 4, 3, 0, 2, 0)
logits <- predict(gold, prompt)
stopifnot(max(abs(logits - c(0, 0, 3, 0, 2.1527021396))) < 1e-9, identical(colnames(logits)[5], "tau"))
stopifnot(max(abs(predict(gold, prompt, "attention_only") + predict(gold, prompt, "feed_forward_only") - logits)) < 1e-14)
p <- predict(gold, prompt, "probabilities")
stopifnot(abs(sum(p) - 1) < 1e-15, max(abs(p - exp(logits) / sum(exp(logits)))) < 1e-15)
names <- lamina_tokens(task)
stopifnot(identical(predict(gold, names[prompt + 1]), logits), identical(predict(gold, rbind(prompt, prompt))[2, ], logits[1, ]))
stopifnot(identical(predict(gold, matrix(as.integer(prompt), 1)), logits), nrow(predict(gold, matrix(0, 0, 9))) == 0)
