# Sweeps: one run for every combination of values, in parallel; their tables, quantiles, times and exponents.

value_text <- function(value) {
  if (is.factor(value)) value <- as.character(value)
  if (is.logical(value)) value <- ifelse(value, "yes", "no")
  if (is.numeric(value)) value <- ifelse(is.infinite(value), ifelse(value > 0, "inf", "-inf"), formatC(value, digits = 17, format = "g", width = 1))
  paste(enc2utf8(as.character(value)), collapse = ",")
}

# The values of an axis as one text; NULL for a single value. An array or a text varies over a list of its values.
axis_text <- function(value, kind) {
  if (is.list(value)) return(paste(vapply(value, value_text, ""), collapse = if (kind %in% c("text", "array")) ";" else ","))
  if (kind %in% c("text", "array") || length(value) == 1L) return(NULL)
  value_text(value)
}

lamina_sweep <- function(task, ..., probes = "default", progress = interactive()) {
  options <- list(...)
  name <- if (inherits(task, "lamina_task")) task$name else task
  if (!is.character(name) || length(name) != 1L) refuse("task must be the name of a task or a task")
  table <- catalogue(name)
  options <- c(options, list(probes = probes))
  if (is.null(options$threads)) options$threads <- default_threads()
  kinds <- as.character(table$kind[match(names(options), table$name)])
  kinds[is.na(kinds)] <- "word"
  axes <- Map(axis_text, options, kinds)
  varied <- !vapply(axes, is.null, NA)
  given <- prepare_options(options[!varied], table)
  made <- if (inherits(task, "lamina_task")) task$pointer
  pointer <- .Call(shim_ensemble_create, enc2utf8(name), made, given, as.character(names(options)[varied]), as.character(axes[varied]))
  advance_sweep(new_sweep(pointer, name, made), progress)
}

new_sweep <- function(pointer, name, task = NULL) structure(list(pointer = pointer, name = name, task = task), class = "lamina_sweep")

lamina_load_sweep <- function(file, task = NULL) {
  if (!is.null(task)) task <- task_of(task)
  new_sweep(.Call(shim_ensemble_load, path.expand(file), task$pointer), task$name, task$pointer)
}

sweep_line <- function(p) {
  left <- if (p$steps > 0) p$seconds / p$steps * (p$all_steps - p$steps) else NA
  cat("\r", formatC(sprintf("run %.0f/%.0f  %.1f %% of steps  failed %.0f  %.0f s left", p$ended, p$members,
                            100 * p$steps / max(p$all_steps, 1), p$failed, left), width = -78),
      if (p$ended == p$members) "\n", file = stderr(), sep = "")
}

advance_sweep <- function(sweep, progress) {
  report <- if (isTRUE(progress)) function(p) shield(function() sweep_line(p), FALSE) else reporter(progress)
  pending$error <- NULL
  ended <- .Call(shim_ensemble_run, sweep$pointer, report, interval)
  raise_pending()
  if (ended[1] != 0L)
    warning(if (ended[2] == 1L) "interrupted" else "stopped", ": the runs that have ended are kept, lamina_continue() goes on", call. = FALSE)
  invisible(sweep)
}

sweep_axes <- function(sweep) .Call(shim_ensemble_axes, sweep$pointer)

# A table of the library as a data frame, with words where an axis has no numbers.
sweep_table <- function(sweep, what, column = "", over = "", along = "", numbers = numeric(), confidence = 0) {
  axes <- sweep_axes(sweep)
  over <- intersect(over, names(axes))
  table <- .Call(shim_ensemble_table, sweep$pointer, what, as.character(c(column, paste(over, collapse = ","), along)), as.double(numbers),
                 as.double(confidence))
  rows <- data.frame(table$columns, check.names = FALSE)
  for (key in names(axes)[vapply(axes, is.character, NA)])
    if (key %in% names(rows)) rows[[key]] <- factor(axes[[key]][rows[[key]] + 1], levels = axes[[key]])
  structure(rows, definitions = table$definitions)
}

as.data.frame.lamina_sweep <- function(x, row.names = NULL, optional = FALSE, ...) sweep_table(x, "table")

summary.lamina_sweep <- function(object, column = "excess", over = "seed", probs = c(0.1, 0.5, 0.9), ...)
  sweep_table(object, "summary", column, over, numbers = probs)

lamina_times <- function(sweep, column = "excess", levels = numeric()) sweep_table(sweep, "times", column, numbers = levels)

lamina_exponents <- function(sweep, column = "excess", along = "level", levels = numeric(), over = "seed", confidence = 0.95)
  sweep_table(sweep, "exponents", column, over, along, levels, confidence)

sweep_status <- function(sweep) {
  status <- .Call(shim_ensemble_status, sweep$pointer)
  names <- c("not ended", "diverged", "gradient vanished", "target reached", "ended by time_limit")
  status$word <- ifelse(status$status < 0L, "failed", c("finished", names)[pmax(status$status, 0L) + 1L])
  data.frame(status, stringsAsFactors = FALSE)
}

print.lamina_sweep <- function(x, ...) {
  if (!is_alive(x$pointer, shim_ensemble_axes, "sweep")) return(invisible(x))
  status <- sweep_status(x)
  cat("lamina sweep", if (!is.null(x$name)) paste0(" of ", x$name), ": ", nrow(status), " runs\n", sep = "")
  axes <- sweep_axes(x)
  for (key in names(axes)) {
    values <- axes[[key]]
    shown <- if (length(values) > 12L) c(utils::head(values, 3), "...", utils::tail(values, 1), paste0("(", length(values), ")")) else values
    wrap(paste0(key, ": ", paste(shown, collapse = " ")))
  }
  counts <- table(status$word)
  cat(paste(counts, names(counts), collapse = ", "), "\n")
  for (text in utils::head(unique(status$text[status$status < 0L]), 5)) wrap(text)
  cat("as.data.frame(sweep), summary(sweep), plot(sweep), lamina_times(sweep), lamina_exponents(sweep)\n")
  invisible(x)
}

# Medians of a column by step with bands between quantiles, one for each combination of the axes but `over`.
plot.lamina_sweep <- function(x, column = "excess", over = "seed", probs = c(0.1, 0.5, 0.9), xlab = "step", ylab = column, main = x$name,
                              sub = NULL, legend = TRUE, log = NULL, ...) {
  rows <- summary(x, column, over, probs)
  axes <- sweep_axes(x)
  runs <- prod(lengths(axes[intersect(over, names(axes))]))
  if (is.null(sub) && runs > 1)
    sub <- sprintf("line: quantile %g, band: %g to %g, of %d runs by %s", probs[2], probs[1], probs[3], runs, paste(over, collapse = ", "))
  drawn <- names(rows)[(ncol(rows) - 2):ncol(rows)]
  keys <- setdiff(names(axes), over)
  words <- lapply(keys, function(key) factor(paste0(key, "=", rows[[key]]), levels = paste0(key, "=", unique(rows[[key]]))))
  group <- if (length(keys)) interaction(words, sep = "  ", drop = TRUE, lex.order = TRUE) else factor(rep("", nrow(rows)))
  all <- unlist(rows[drawn])
  if (is.null(log)) log <- log_axes(.Call(shim_ensemble_option, x$pointer, 0, "record_per_decade"), any(is.finite(all) & all > 0))
  logarithmic <- grepl("y", log)
  ylim <- range(all[is.finite(all) & (all > 0 | !logarithmic)])
  empty_plot(rows$step, ylim, log, xlab = xlab, ylab = ylab, main = main, sub = sub, cex.sub = 0.8, ...)
  # Two axes: a colour for each value of the one, a dash for each of the other; else a colour a curve.
  first <- match(levels(group), group)
  two <- length(keys) == 2L && nlevels(words[[2]]) <= 6L
  shade <- if (two) as.integer(words[[1]])[first] else seq_along(first)
  dash <- if (two) as.integer(words[[2]])[first] else rep(1L, length(first))
  colour <- grDevices::hcl.colors(max(shade), "Dark 3")[shade]
  for (i in seq_along(first)) {
    part <- rows[group == levels(group)[i] & (rows$step > 0 | !grepl("x", log)), ]
    band <- pmax(c(part[[drawn[1]]], rev(part[[drawn[3]]])), if (logarithmic) ylim[1] else -Inf)
    graphics::polygon(c(part$step, rev(part$step)), band, col = grDevices::adjustcolor(colour[i], 0.2), border = NA)
    graphics::lines(part$step, part[[drawn[2]]], col = colour[i], lty = dash[i], lwd = 2)
  }
  if (legend && length(keys))
    graphics::legend(free_corner(rows$step, as.matrix(rows[drawn])), levels(group), col = colour, lty = dash, lwd = 2, bty = "n", cex = 0.8)
  invisible(rows)
}
