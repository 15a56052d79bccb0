# Runs: a trainer (which moves), and what lamina_run returns (which does not).

as_task <- function(task, options) {
  if (inherits(task, "lamina_task")) {
    table <- catalogue(task$name)
    taken <- intersect(names(options), table$name[table$owner == "task"])
    if (length(taken)) refuse("option ", taken[1], " belongs to the task, which is made already: give it to lamina_task()")
    return(task)
  }
  if (!is.character(task)) refuse("task must be the name of a task or a task, is of class ", class(task)[1])
  do.call(lamina_task, c(list(task), options))
}

lamina_trainer <- function(task, ..., model = NULL, probes = "default") {
  options <- list(...)
  options$probes <- paste(probes, collapse = ",")
  if (is.null(options$threads)) options$threads <- default_threads()
  task <- as_task(task, options)
  table <- catalogue(task$name)
  if (!is.null(model)) {
    model <- model_of(model)
    taken <- setdiff(intersect(names(list(...)), table$name[table$owner == "model"]), c("seed", "threads"))
    if (length(taken)) refuse("option ", taken[1], " belongs to the model, which is made already: give it to lamina_model()")
  }
  given <- prepare_options(options, table)
  new_trainer(.Call(shim_trainer_create, task$pointer, model$pointer, given$keys, given$values, given$arrays), task)
}

new_trainer <- function(pointer, task) structure(list(pointer = pointer, task = task), class = "lamina_trainer")

trainer_step <- function(trainer) .Call(shim_trainer_step, trainer$pointer)

# The options of a run that are not what the catalogue gives as defaults, and all, as texts.
run_options <- function(trainer) {
  table <- catalogue(trainer$task$name)
  values <- stats::setNames(.Call(shim_trainer_options, trainer$pointer, table$name), table$name)
  same <- values == table$default
  numbers <- table$kind %in% c("number", "integer") & nzchar(table$default)
  same[numbers] <- as.numeric(values[numbers]) == as.numeric(table$default[numbers])
  structure(values, changed = !same)
}

print.lamina_trainer <- function(x, ...) {
  if (!is_alive(x$pointer, shim_trainer_step, "trainer")) return(invisible(x))
  cat("lamina trainer of ", x$task$name, " at step ", trainer_step(x), " of ", run_options(x)[["steps"]], "\n", sep = "")
  invisible(x)
}

lamina_run <- function(task, ..., model = NULL, probes = "default", progress = interactive()) {
  advance(lamina_trainer(task, ..., model = model, probes = probes), 0, progress)
}

lamina_continue <- function(x, steps = 0, progress = interactive()) {
  if (inherits(x, "lamina_sweep")) return(advance_sweep(x, progress))
  if (inherits(x, "lamina_run")) {
    if (is.null(x$trainer)) refuse("this run cannot be continued: it holds no trainer")
    if (trainer_step(x$trainer) != x$step)
      refuse("this run is at step ", x$step, " and was continued to step ", trainer_step(x$trainer),
             " already: continue what lamina_continue() returned last")
    x <- x$trainer
  }
  if (!inherits(x, "lamina_trainer")) refuse("not a trainer or a run of lamina: ", class(x)[1])
  started <- trainer_step(x)
  steps <- as_count(steps, "steps")
  run <- advance(x, steps, progress)
  if (steps > 0 && started == run$step && run$step == run$steps)
    warning("the run has made all its ", run$steps, " steps, which the option steps fixed when it was made", call. = FALSE)
  run
}

# One line on the terminal, written over and over.
progress_line <- function(p) {
  left <- if (p$steps_per_second > 0) (p$steps - p$step) / p$steps_per_second else NA
  line <- sprintf("step %.0f/%.0f  loss %.6g  excess %.4g  %.0f steps/s  %.0f s left", p$step, p$steps, p$loss, p$excess,
                  p$steps_per_second, left)
  cat("\r", formatC(line, width = -78), if (p$step >= p$steps) "\n", file = stderr(), sep = "")
}

reporter <- function(progress) {
  if (is.function(progress)) return(function(p) shield(function() progress(p), FALSE))
  if (isTRUE(progress)) return(function(p) shield(function() progress_line(p), FALSE))
  if (isFALSE(progress)) return(NULL)
  refuse("progress must be TRUE, FALSE or a function")
}

# Seconds between looks for an interrupt, and between lines of progress.
interval <- 0.1

advance <- function(trainer, steps, progress) {
  report <- reporter(progress)
  pending$error <- NULL
  ended <- .Call(shim_trainer_run, trainer$pointer, steps, report, interval)
  raise_pending()
  run <- new_run(trainer, ended[1], ended[2] == 1L)
  if (ended[1] != 0L && isTRUE(progress)) cat("\n", file = stderr())
  if (run$status == "LAMINA_STOPPED")
    warning(if (run$interrupted) "interrupted" else "stopped", " at step ", run$step, " of ", run$steps,
            ": what was computed is kept, lamina_continue() goes on", call. = FALSE)
  if (run$status == "LAMINA_DIVERGED")
    warning("diverged at step ", run$step, ": the loss or the gradient is not finite", call. = FALSE)
  if (run$status == "LAMINA_TIME_LIMIT")
    warning("time_limit reached at step ", run$step, " of ", run$steps, ": lamina_continue() goes on for as long again", call. = FALSE)
  run
}

new_run <- function(trainer, code = 0L, interrupted = FALSE) {
  table <- .Call(shim_trainer_trajectory, trainer$pointer)
  options <- run_options(trainer)
  structure(list(task = trainer$task, model = model_of(trainer), trainer = trainer,
                 trajectory = data.frame(table$columns, check.names = FALSE), definitions = table$definitions,
                 crossings = data.frame(.Call(shim_trainer_crossings, trainer$pointer)),
                 options = options, step = trainer_step(trainer), steps = as.numeric(options[["steps"]]),
                 status = .Call(shim_status_name, code), interrupted = interrupted), class = "lamina_run")
}

status_text <- function(run) {
  switch(run$status,
    LAMINA_OK = if (run$step < run$steps) "not finished" else "finished",
    LAMINA_STOPPED = if (run$interrupted) "interrupted" else "stopped",
    LAMINA_DIVERGED = "diverged: the loss or the gradient is not finite",
    LAMINA_GRADIENT_VANISHED = "ended: the gradient vanished",
    LAMINA_TARGET_REACHED = "target reached",
    LAMINA_TIME_LIMIT = "ended by time_limit",
    run$status)
}

print.lamina_run <- function(x, ...) {
  rows <- nrow(x$trajectory)
  changed <- x$options[attr(x$options, "changed")]
  cat("lamina run of ", x$task$name, ": step ", x$step, " of ", x$steps, ", ", status_text(x), "\n", sep = "")
  if (length(changed)) wrap(paste(names(changed), changed, sep = "=", collapse = "  "))
  if (!rows) return(invisible(x))
  shown <- intersect(c("step", "loss", "excess", "predicted", "test_excess", "unseen_accuracy"), names(x$trajectory))
  print(x$trajectory[unique(c(1L, rows)), shown], row.names = FALSE, digits = 6)
  if (nrow(x$crossings)) print(x$crossings, row.names = FALSE, digits = 6)
  cat(rows, " rows, ", ncol(x$trajectory), " columns: as.data.frame(run), summary(run), plot(run), coef(run), predict(run, prompts)\n",
      sep = "")
  invisible(x)
}

as.data.frame.lamina_run <- function(x, row.names = NULL, optional = FALSE, ...) x$trajectory
head.lamina_run <- function(x, ...) utils::head(x$trajectory, ...)
tail.lamina_run <- function(x, ...) utils::tail(x$trajectory, ...)

# Closed forms that belong to this run; NA where none does.
run_theory <- function(run) {
  form <- function(...) tryCatch(lamina_theory(...), lamina_error = function(e) NA_real_)
  number <- function(key) suppressWarnings(as.numeric(run$options[key]))
  out <- c(bayes_risk = form("bayes_risk", task = run$task), slope = NA, floor = NA)
  if (!"predicted" %in% names(run$trajectory)) return(out)
  out["slope"] <- form("asymptotic_slope", number("step_size"), run$options[["normalisation"]], task = run$task)
  # The noise that the held feed-forward part was given is an estimate: what it leaves is a divergence.
  logit <- parameters(run)$noise_logit
  if (length(logit) == 1L && isTRUE(number("noise") > 0)) out["floor"] <- form("estimate_excess", number("noise"), stats::plogis(logit))
  out
}

summary.lamina_run <- function(object, ...) {
  last <- object$trajectory[nrow(object$trajectory), , drop = FALSE]
  structure(list(run = object, last = unlist(last), theory = run_theory(object)), class = "summary.lamina_run")
}

print.summary.lamina_run <- function(x, ...) {
  run <- x$run
  cat("lamina run of ", run$task$name, ": step ", run$step, " of ", run$steps, ", ", status_text(run), "\n", sep = "")
  notes <- c(bayes_risk = "Bayes risk", slope = "predicted slope of ln(excess) per step, in the limit",
             floor = "predicted excess in the limit: KL(noise || its estimate)")
  for (name in names(x$theory)[!is.na(x$theory)]) cat(format(x$theory[[name]], digits = 6, width = 12), " ", notes[[name]], "\n")
  cat("\nlast row\n")
  width <- max(nchar(names(x$last)))
  for (name in names(x$last))
    cat("  ", formatC(name, width = -width), " ", formatC(x$last[[name]], digits = 6, width = 12, format = "g"), "  ",
        run$definitions[[name]], "\n", sep = "")
  invisible(x)
}

lamina_save <- function(x, file) {
  if (inherits(x, "lamina_sweep")) {
    .Call(shim_ensemble_save, x$pointer, path.expand(file))
    return(invisible(file))
  }
  if (inherits(x, "lamina_run")) {
    if (trainer_step(x$trainer) != x$step)
      refuse("this run is at step ", x$step, " and was continued to step ", trainer_step(x$trainer),
             ": save what lamina_continue() returned last")
    x <- x$trainer
  }
  if (!inherits(x, "lamina_trainer")) refuse("not a trainer or a run of lamina: ", class(x)[1])
  .Call(shim_trainer_save, x$pointer, path.expand(file))
  invisible(file)
}

lamina_load <- function(file, task = NULL) {
  if (!is.null(task)) task <- task_of(task)
  pending$error <- NULL
  pointer <- .Call(shim_trainer_load, path.expand(file), task$pointer)
  if (is.null(task)) task <- new_task(.Call(shim_trainer_task, pointer))
  new_run(new_trainer(pointer, task))
}
