# Handles and the garbage collector: freed in any order, and a collection at every allocation changes nothing.
library(lamina)

make <- function() lamina_run("in_context_recall", samples = 16, steps = 3, prompt_length = 32, evaluation_samples = 8, threads = 1)
prompts <- lamina_sample(lamina_task("in_context_recall", prompt_length = 32), 2)$prompts
reference <- make()
expected <- predict(reference, prompts)

set.seed(11)
for (round in 1:20) {
  run <- make()
  parts <- list(task = run$task, model = run$model, trainer = run$trainer, copy = run$model)
  parameters(parts$copy) <- list(lambda = runif(5))
  rm(run)
  for (name in sample(names(parts))) {
    parts[[name]] <- NULL
    invisible(gc(FALSE))
    if (!is.null(parts$model)) stopifnot(identical(predict(parts$model, prompts), expected))
    if (!is.null(parts$trainer)) stopifnot(lamina_continue(parts$trainer)$step == 3)
  }
}

# A task that is an R function lives as long as any handle made from it.
trainer <- local({
  source <- lamina_task("in_context_recall", prompt_length = 32)
  sampler <- function(split, seed, first, count) lamina_sample(source, count, split, seed, first)
  lamina_trainer(lamina_task_from_function(sampler, 32, 60, 0.5), data = "fresh", batch = 4, steps = 20, probes = "none")$pointer
})
invisible(gc(FALSE))
trainer <- structure(list(pointer = trainer, task = list(name = "callback")), class = "lamina_trainer")
for (i in 1:4) invisible(list(gc(FALSE), lamina_continue(trainer, 5)))
stopifnot(lamina:::trainer_step(trainer) == 20)

# A trainer that was loaded keeps its own task.
file <- tempfile()
lamina_save(reference, file)
loaded <- lamina_load(file)$model
invisible(gc(FALSE))
stopifnot(identical(predict(loaded, prompts), expected))

# Every allocation collects.
q <- matrix(c(0.5, 1, -1, 2, 0, 1), 3)
plain <- lamina_attention(q, q, q, weights = TRUE, lse = TRUE)
slope <- lamina_attention_gradient(q, q, q, q)
gctorture(TRUE)
task <- lamina_task("in_context_recall", prompt_length = 32)
tortured <- .Call(lamina:::shim_model_create, task$pointer, c("seed", "variant"), list(1, "full"), c(FALSE, FALSE))
read <- .Call(lamina:::shim_model_get, tortured)
tensors <- .Call(lamina:::shim_model_tensors, tortured)
drawn <- .Call(lamina:::shim_task_sample, task$pointer, 0L, 1, 0, 2)
logits <- .Call(lamina:::shim_model_forward, reference$model$pointer, t(prompts) + 0, 0L)
table <- .Call(lamina:::shim_trainer_trajectory, reference$trainer$pointer)
info <- .Call(lamina:::shim_info)
catalogue <- .Call(lamina:::shim_catalogue, "tasks")
again <- lamina_attention(q, q, q, weights = TRUE, lse = TRUE)
slope_again <- lamina_attention_gradient(q, q, q, q)
text <- tryCatch(.Call(lamina:::shim_task_create, "juggling", character(), list(), logical()), error = conditionMessage)
gctorture(FALSE)
stopifnot(identical(plain, again), identical(slope, slope_again), identical(t(logits), unname(expected)))
stopifnot(identical(data.frame(table$columns), as.data.frame(reference)), grepl("juggling", text), nzchar(info$version))
stopifnot("lambda" %in% tensors$name, length(read) >= 5, identical(dim(drawn[[1]]), c(32L, 2L)), length(catalogue) == 9)
