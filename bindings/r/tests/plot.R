# Pictures are drawn for every kind of run; what they look like is for eyes.
library(lamina)
pdf(NULL)
small <- function(...) lamina_run("in_context_recall", ..., samples = 64, prompt_length = 32, evaluation_samples = 32)
run <- small(steps = 200)
stopifnot(identical(plot(run), run), identical(lines(run, column = "test_excess"), run), par("ylog"))

# Excess at or below zero, of which there is much once a finite sample is fitted.
low <- run
low$trajectory$excess[c(5, 50, 200)] <- c(0, -1e-3, NaN)
plot(low)
low$trajectory$excess[] <- -1
plot(low)
stopifnot(!par("ylog"))
low$trajectory$excess[] <- NaN
plot(low)

# One row, two rows, no prediction, no noise, population, other normalisations.
plot(small(steps = 0))
plot(small(steps = 1), main = "mine", legend = FALSE)
plot(small(steps = 20, optimiser = "adam"))
plot(small(steps = 20, variant = "w_free", noise = 0))
plot(lamina_run("in_context_recall", data = "population", prompt_length = Inf, steps = 900, noise = 0))
plot(small(steps = 50, normalisation = "sign"))

# Columns of one's choice, on either axis, with and without crossings.
rare <- lamina_run("in_context_convergence", features = 10, dominant = 0.5, prompt_length = Inf, steps = 1000, record_per_decade = 10,
                   crossings = c("beta_1_2=0", "attention_1=0.5", "attention_1=2"))
stopifnot(identical(plot(rare, c("attention_1", "attention_1_0")), rare), par("xlog"), !par("ylog"))
plot(rare, "loss_0", main = "mine", legend = FALSE)
stopifnot(par("xlog"), par("ylog"))
plot(rare, c("A_1", "B_1_0"), log = "")
stopifnot(!par("xlog"))
plot(rare)
stopifnot(par("xlog"), par("ylog"))
plot(rare, log = "y")
stopifnot(!par("xlog"), par("ylog"))
plot(small(steps = 300, record_per_decade = 10))  # its slope is a curve there
stopifnot(par("xlog"))
unknown <- tryCatch(plot(rare, "A_7"), lamina_error = conditionMessage)
stopifnot(grepl("the run has no column A_7; it has step, loss", unknown))
none <- tryCatch({ low$trajectory$loss[] <- NaN; plot(low) }, lamina_error = conditionMessage)
stopifnot(identical(none, "the run has no finite loss to draw"))
invisible(dev.off())
