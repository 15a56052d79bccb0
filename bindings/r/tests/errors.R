# Failures are R conditions with the library's text, its status, and a class of their own.
library(lamina)

failure <- function(expr) {
  e <- tryCatch({ expr; NULL }, error = function(e) e)
  if (is.null(e)) stop("no error: ", deparse(substitute(expr)))
  e
}
is_error <- function(e, name, pattern) {
  if (!inherits(e, "lamina_error") || !inherits(e, name) || e$status_name != name || !grepl(pattern, conditionMessage(e)))
    stop("expected ", name, " like \"", pattern, "\", got ", paste(class(e), collapse = "/"), ": ", conditionMessage(e))
}

run <- lamina_run("in_context_recall", samples = 32, steps = 2, prompt_length = 32)
is_error(failure(lamina_run("in_context_recall", noise = 2)), "LAMINA_E_OPTION", "noise is 2, must be a number in \\[0, ")
is_error(failure(lamina_run("in_context_recall", colour = 2)), "LAMINA_E_OPTION", "\"colour\" is not an option, must be one of ")
is_error(failure(lamina_run("in_context_recall", variant = "no")), "LAMINA_E_OPTION", "variant is \"no\", must be one of full")
is_error(failure(lamina_run("juggling")), "LAMINA_E_ARGUMENT", "juggling")
stopifnot(failure(lamina_run("in_context_recall", noise = 2))$status == -2L)
is_error(failure(lamina_run("in_context_recall", 3)), "LAMINA_E_ARGUMENT", "every option must be named")
is_error(failure(lamina_run("in_context_recall", noise = 1:2)), "LAMINA_E_ARGUMENT", "noise has 2 values")
is_error(failure(lamina_run("in_context_recall", noise = NULL)), "LAMINA_E_ARGUMENT", "noise is of class NULL")
is_error(failure(lamina_run("in_context_recall", noise = NaN)), "LAMINA_E_OPTION", "noise is nan")
is_error(failure(lamina_run("in_context_recall", probes = "x")), "LAMINA_E_OPTION", "probe is x, must be one of ")
is_error(failure(lamina_run(run$task, noise = 0.1)), "LAMINA_E_ARGUMENT", "belongs to the task")
is_error(failure(lamina_run(run$task, model = run, variant = "full")), "LAMINA_E_ARGUMENT", "belongs to the model")
is_error(failure(lamina_run(7)), "LAMINA_E_ARGUMENT", "task must be the name")
is_error(failure(lamina_continue(7)), "LAMINA_E_ARGUMENT", "not a trainer or a run")
is_error(failure(lamina_continue(run, -1)), "LAMINA_E_ARGUMENT", "steps is -1")
is_error(failure(lamina_load(tempfile())), "LAMINA_E_FILE", "could not be opened")
is_error(failure(lamina_save(run, file.path(tempfile(), "x"))), "LAMINA_E_FILE", "could not be created")
garbage <- tempfile()
writeLines("garbage", garbage)
is_error(failure(lamina_load(garbage)), "LAMINA_E_FORMAT", "not a checkpoint")
is_error(failure(predict(run, c(0, 99, 1))), "LAMINA_E_ARGUMENT", "99")
is_error(failure(predict(run, c("q0", "nobody"))), "LAMINA_E_ARGUMENT", "nobody")
is_error(failure(predict(run, c(0, NA, 1))), "LAMINA_E_ARGUMENT", "missing")
is_error(failure(predict(run, 1)), "LAMINA_E_ARGUMENT", "length is 1")
is_error(failure(parameters(run) <- list(lambda = 1)), "LAMINA_E_ARGUMENT", "lambda has dimensions 1, must have 5")
is_error(failure(parameters(run) <- list(gamma = 1)), "LAMINA_E_ARGUMENT", "there is no parameter gamma")
is_error(failure(parameters(run) <- list(lambda = c(1, 2, NaN, 4, 5))), "LAMINA_E_ARGUMENT", "nan")
stopifnot(grepl("count must be in", conditionMessage(failure(lamina_sample(run$task, -1)))))
stopifnot(grepl("seed must be a whole number", conditionMessage(failure(lamina_sample(run$task, 1, seed = 2^60)))))
is_error(failure(lamina_theory("magic")), "LAMINA_E_ARGUMENT", "must be one of bayes_risk")
is_error(failure(lamina_theory("excess_after", 1)), "LAMINA_E_ARGUMENT", "takes 3 arguments, 1 given")
is_error(failure(lamina_theory("binary_entropy", 2)), "LAMINA_E_ARGUMENT", "alpha is 2")
is_error(failure(lamina_describe("magic")), "LAMINA_E_ARGUMENT", "must be an option, a task")
is_error(failure(lamina_task_from_matrix(matrix(0:3, 2), 1:3)), "LAMINA_E_ARGUMENT", "targets must be a matrix of 2 rows")

# A failure leaves the run as it was.
stopifnot(identical(lamina_continue(run)$trajectory, run$trajectory))

# Handles do not survive a session: what is read back says so, and its table is there.
file <- tempfile()
saveRDS(run, file)
ghost <- readRDS(file)
stopifnot(identical(as.data.frame(ghost), as.data.frame(run)), any(grepl("step 2 of 2", capture.output(print(ghost)))))
stopifnot(all(grepl("of another session", capture.output(print(ghost$model), print(ghost$trainer)))))
stopifnot(grepl("another session", conditionMessage(failure(predict(ghost, c(0, 1))))))
stopifnot(grepl("another session", conditionMessage(failure(lamina_continue(ghost)))))

# A handle of another kind, or of another package, is refused.
mixed <- run
mixed$model$pointer <- run$task$pointer
stopifnot(grepl("not a lamina model", conditionMessage(failure(predict(mixed, c(0, 1))))))
mixed$model$pointer <- 1
stopifnot(grepl("not a lamina model", conditionMessage(failure(predict(mixed, c(0, 1))))))
