# Runs: closed forms, chunks, files, models to start from, progress.
library(lamina)
small <- function(..., f = lamina_run) f("in_context_recall", ..., samples = 128, prompt_length = 32, evaluation_samples = 64)
table_of <- function(run) as.data.frame(run)

# A population run equals the closed form.
exact <- lamina_run("in_context_recall", data = "population", prompt_length = Inf, noise = 0.2, steps = 300, record_every = 50)
rows <- table_of(exact)
stopifnot(exact$status == "LAMINA_OK", identical(rows$step, seq(0, 300, 50)))
form <- lamina_theory("excess_after", step_size = 0.1, t = rows$step, normalisation = "l2", noise = 0.2)
stopifnot(identical(form, lamina_theory("excess_after", 0.1, rows$step, 0, noise = 0.2)))
words <- lamina_theory("asymptotic_slope", step_size = 0.1, normalisation = c("l2", "l1", "sign"))
stopifnot(max(abs(words - c(-0.1 / sqrt(5), -0.02, -0.1))) < 1e-15)
stopifnot(max(abs(rows$excess / form - 1)) < 1e-9, max(abs(rows$predicted / form - 1)) < 1e-12)
stopifnot(max(abs(rows$loss - rows$excess - lamina_theory("bayes_risk", noise = 0.2))) < 1e-12)
risk <- -0.2 * log(0.2) - 0.8 * log(0.8)
stopifnot(abs(lamina_theory("bayes_risk", task = exact) - risk) < 1e-15)

# Chunks equal the whole, and a run is a value.
whole <- small(steps = 60, optimiser = "adam", step_size = 0.05)
trainer <- small(steps = 60, optimiser = "adam", step_size = 0.05, f = lamina_trainer)
first <- lamina_continue(trainer, 7)
kept <- table_of(first)
lambda <- coef(first)
stopifnot(first$step == 7, nrow(kept) == 8)
second <- lamina_continue(first, 20)
third <- lamina_continue(second)
stopifnot(identical(table_of(third), table_of(whole)), identical(coef(third), coef(whole)))
stopifnot(identical(table_of(first), kept), identical(coef(first), lambda), !identical(lambda, coef(third)))
old <- tryCatch(lamina_continue(first), lamina_error = function(e) e)
stopifnot(inherits(old, "lamina_error"), grepl("continue what lamina_continue\\(\\) returned last", conditionMessage(old)))
stopifnot(identical(table_of(lamina_continue(third)), table_of(whole)))
stopifnot(grepl("made all its 60 steps", tryCatch(lamina_continue(third, 1), warning = conditionMessage)))

# Any number of threads: the same bits.
stopifnot(identical(table_of(small(steps = 20, threads = 1)), table_of(small(steps = 20, threads = 2))))

# A file: the same bits as without, and the run's own task and options.
file <- tempfile(fileext = ".safetensors")
half <- small(steps = 60, optimiser = "adam", step_size = 0.05, noise = 0.3, f = lamina_trainer)
run <- lamina_continue(half, 31)
stopifnot(identical(lamina_save(run, file), file))
back <- lamina_load(file)
stopifnot(identical(table_of(back), table_of(run)), identical(parameters(back), parameters(run)), back$step == 31)
stopifnot(identical(back$options, run$options), identical(lamina_tokens(back$task), lamina_tokens(run$task)))
stopifnot(back$task$vocabulary == 60, back$options["noise"] == "0.3")
stopifnot(identical(table_of(lamina_continue(back)), table_of(lamina_continue(run))))
prompts <- lamina_sample(back$task, 5, "test")$prompts
stopifnot(identical(predict(lamina_load(file), prompts), predict(run, prompts)))

# A model to start from.
model <- lamina_model("in_context_recall", variant = "full")
parameters(model) <- list(lambda = rep(2, 5))
started <- small(steps = 5, model = model)
stopifnot(identical(unlist(table_of(started)[1, paste0("lambda_", 0:4)], use.names = FALSE), rep(2, 5)))
stopifnot(identical(parameters(model)$lambda, rep(2, 5)))

# Probes by name; progress as a function, which may stop the run.
bare <- small(steps = 3, probes = "none")
stopifnot(identical(names(table_of(bare)), c("step", "loss", "excess")))
two <- small(steps = 3, probes = c("lambda", "mass"))
stopifnot(all(c("lambda_0", "mass_answer") %in% names(table_of(two))), !"predicted" %in% names(table_of(two)))
seen <- NULL
told <- small(steps = 5, progress = function(p) seen <<- p)
stopifnot(seen$step == 5, seen$steps == 5, is.finite(seen$loss), identical(table_of(told), table_of(small(steps = 5))))
caught <- NULL
stopped <- withCallingHandlers(
  small(steps = 1e6, record_every = 1e5, step_size = 1e-6, progress = function(p) FALSE),
  warning = function(w) { caught <<- conditionMessage(w); invokeRestart("muffleWarning") })
stopifnot(stopped$status == "LAMINA_STOPPED", !stopped$interrupted, stopped$step < 1e6, grepl("^stopped at step", caught))
failing <- tryCatch(small(steps = 50, progress = function(p) stop("mine")), error = conditionMessage)
stopifnot(identical(failing, "mine"))

# Crossings and the ends of a run.
balanced <- function(...) lamina_run("in_context_convergence", features = 10, prompt_length = Inf, ...)
timed <- balanced(steps = 1000, probes = "none", record_per_decade = 1, crossings = c("loss=0.1", "attention_0=0.5", "loss=1e-9"))
stopifnot(identical(timed$crossings$signal, c("loss", "attention_0", "loss")), identical(timed$crossings$step, c(166, 145, NA)))
stopifnot(timed$crossings$before[1] > 0.1, timed$crossings$after[1] <= 0.1, identical(timed$crossings$time, c(166, 145, NA)))
flow <- balanced(steps = 1000, optimiser = "flow", step_size = 40, crossings = "attention_0=0.5", stop_at_crossings = "yes")
stopifnot(flow$crossings$time > flow$step - 1, flow$crossings$time < flow$step)
stopifnot(abs(flow$crossings$time * 40 / lamina_theory("flow_time", 0.5, task = flow$task) - 1) < 1e-7)
stopifnot(identical(table_of(timed)$step, c(0, 1, 10, 100, 145, 166, 1000)), any(grepl("attention_0", capture.output(print(timed)))))
reached <- balanced(steps = 1000, excess_target = 0.1)
stopifnot(reached$status == "LAMINA_TARGET_REACHED", reached$step == 166, lamina_continue(reached)$step == 1000)
limit <- tryCatch(balanced(steps = 1e9, record_every = 1e9, time_limit = 1e-3), warning = conditionMessage)
stopifnot(grepl("^time_limit reached at step", limit), nrow(whole$crossings) == 0)

# What a run says of itself.
text <- capture.output(print(whole), print(summary(whole)), print(trainer), print(whole$task), print(whole$model))
stopifnot(any(grepl("step 60 of 60, finished", text)), any(grepl("Bayes risk", text)))
stopifnot(identical(head(whole, 2), head(table_of(whole), 2)), identical(tail(whole, 1)$step, 60))
stopifnot(all(names(whole$trajectory) %in% names(whole$definitions)), all(nzchar(whole$definitions)))
