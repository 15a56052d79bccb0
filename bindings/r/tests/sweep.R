# Sweeps: each run is the run alone; summaries, times and exponents are those of the table; failures, interrupts, files.
library(lamina)
base <- list("in_context_convergence", data = "fresh", batch = 16, prompt_length = 20, steps = 30, record_every = 3)
sweep_of <- function(...) do.call(lamina_sweep, c(base, list(...)))
run_of <- function(...) do.call(lamina_run, c(base, list(...)))

sweep <- sweep_of(attention = c("softmax", "relu"), seed = 0:2, step_size = c(0.5, 2), threads = 2)
table <- as.data.frame(sweep)
stopifnot(nrow(table) == 12 * 11, identical(levels(table$attention), c("softmax", "relu")), all(table$status == 0))
for (attention in c("softmax", "relu")) for (seed in 0:2) for (step_size in c(0.5, 2)) {
  alone <- as.data.frame(run_of(attention = attention, seed = seed, step_size = step_size))
  mine <- table[table$attention == attention & table$seed == seed & table$step_size == step_size, ]
  for (column in names(alone)) stopifnot(identical(alone[[column]], mine[[column]]))
}
rows <- summary(sweep, "loss", probs = c(0.25, 0.5))
for (i in seq_len(nrow(rows))) {
  these <- table$loss[table$attention == rows$attention[i] & table$step_size == rows$step_size[i] & table$step == rows$step[i]]
  stopifnot(max(abs(quantile(these, c(0.25, 0.5)) - c(rows$q0.25[i], rows$q0.5[i]))) < 1e-14, rows$members[i] == 3)
}

# F6 of in-context convergence, and the fit by lm.
laws <- lamina_sweep("in_context_convergence", prompt_length = Inf, features = c(160, 320), steps = 2e5, record_every = 1e6, probes = "none",
                     crossings = c("loss=0.1", "loss=0.01"), loss_target = 0.01)
stopifnot(max(abs(lamina_exponents(laws, "loss", "features")$exponent - c(1.94, 1.82))) < 0.006)
several <- sweep_of(features = c(4, 6, 9), seed = 0:4, crossings = "loss=0.35", probes = "none")
times <- lamina_times(several, "loss")
fit <- lm(log(time) ~ log(features), times[!is.nan(times$time) & times$time > 0, ])
ours <- lamina_exponents(several, "loss", "features", confidence = 0.9)
bounds <- confint(fit, level = 0.9)[2, ]
stopifnot(abs(ours$exponent - coef(fit)[[2]]) < 1e-10, abs(ours$lower - bounds[1]) < 1e-8, abs(ours$upper - bounds[2]) < 1e-8)

# A run that fails takes nothing from the others; mistakes are conditions.
mixed <- sweep_of(dimension = c(0, 2))
stopifnot(sum(is.nan(as.data.frame(mixed)$loss)) == 1, any(grepl("dimension is 2", capture.output(print(mixed)))))
error <- tryCatch(sweep_of(seed = c(1, 1)), lamina_error = conditionMessage)
stopifnot(grepl("twice", error))

# Lists are axes of arrays and texts.
weighted <- sweep_of(features = 2, feature_weights = list(c(1, 1), c(1, 3)), probes = list("weights", c("weights", "attention")))
stopifnot(nlevels(as.data.frame(weighted)$feature_weights) == 2, nlevels(as.data.frame(weighted)$probes) == 2)

# Stopped by its progress, saved, loaded, continued: the bits of an uninterrupted sweep.
long <- function(progress) lamina_sweep("in_context_convergence", data = "fresh", batch = 64, prompt_length = 50, steps = 600, record_every = 50,
                                        seed = 0:29, probes = "none", progress = progress)
half <- suppressWarnings(long(function(p) FALSE))
file <- tempfile(fileext = ".safetensors")
lamina_save(half, file)
resumed <- lamina_continue(lamina_load_sweep(file), progress = FALSE)
stopifnot(identical(as.data.frame(resumed), as.data.frame(long(FALSE))))
pdf(NULL)
plot(sweep, "loss")
stopifnot(!par("xlog"), par("ylog"))
spaced <- lamina_sweep("in_context_convergence", prompt_length = Inf, steps = 2000, record_per_decade = 8, features = c(5, 10, 20), step_size = c(0.5, 1))
rows <- plot(spaced)
stopifnot(par("xlog"), par("ylog"), 0 %in% rows$step)
plot(spaced, log = "")
stopifnot(!par("xlog"), !par("ylog"))

# An axis of many values is shown by its ends.
long <- lamina_sweep("in_context_recall", seed = 0:19, steps = 1, samples = 8)
stopifnot(any(grepl("seed: 0 1 2 ... 19 (20)", capture.output(print(long)), fixed = TRUE)))
