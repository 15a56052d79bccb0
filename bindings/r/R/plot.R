# The picture of a run: excess on a log axis, what theory predicts, and the predicted slope beside it.

colours <- c(excess = "#1b4f9c", predicted = "#d1690e", slope = "#555555", floor = "#2f8f4e")

# Labels 10^k at whole decades, and no more than eight of them.
decade_axis <- function(range, side = 2) {
  decades <- seq(floor(range[1]), ceiling(range[2]))
  decades <- decades[seq(1, length(decades), by = max(1, ceiling(length(decades) / 8)))]
  graphics::axis(side, at = 10^decades, labels = parse(text = paste0("10^", decades)), las = 1, cex.axis = 0.9, mgp = c(3, 0.6, 0))
}

# Axes alone. A log axis of steps begins at 1 and leaves step 0 out.
empty_plot <- function(step, ylim, log, ...) {
  xlim <- if (grepl("x", log)) c(1, max(step, 10)) else range(step)
  far_x <- grepl("x", log) && xlim[2] > 100
  far_y <- grepl("y", log) && ylim[2] > 100 * ylim[1]
  graphics::plot(xlim, ylim, type = "n", log = log, las = 1, xaxt = if (far_x) "n" else "s", yaxt = if (far_y) "n" else "s", ...)
  if (far_x) decade_axis(log10(xlim), 1)
  if (far_y) decade_axis(log10(ylim))
}

# Rows at log-spaced steps, which the option record_per_decade says, ask for a log axis.
log_axes <- function(per_decade, y) paste(c(if (isTRUE(suppressWarnings(as.numeric(per_decade)) > 0)) "x", if (y) "y"), collapse = "")

plot.lamina_run <- function(x, columns = NULL, main = NULL, sub = NULL, xlab = "step", ylab = NULL, ylim = NULL, legend = TRUE,
                            log = NULL, ...) {
  if (!is.null(columns)) return(plot_columns(x, columns, main, xlab, ylab, ylim, legend, log, ...))
  rows <- x$trajectory
  shown <- if (any(is.finite(rows$excess))) "excess" else "loss"
  y <- rows[[shown]]
  drawn <- is.finite(y) & y > 0
  if (!nrow(rows) || !any(is.finite(y))) refuse("the run has no finite loss to draw")
  theory <- run_theory(x)
  if (is.null(log)) log <- log_axes(x$options["record_per_decade"], any(drawn))
  logarithmic <- grepl("y", log)
  if (logarithmic && !any(drawn)) refuse("the run has no positive ", shown, ", which a log axis could show")
  if (is.null(main)) main <- run_title(x)
  unit <- if (grepl("Bayes", x$definitions[["excess"]])) " (nats)" else ""
  over <- if (nzchar(unit)) "excess loss over the Bayes risk" else "excess loss over its infimum"
  if (is.null(ylab)) ylab <- paste0(if (shown == "excess") over else "loss", unit)
  predicted <- rows$predicted
  if (is.null(ylim)) {
    ylim <- range(if (logarithmic) y[drawn] else y[is.finite(y)])
    # The prediction falls for ever: it is drawn a decade below the run at most.
    if (logarithmic && !is.null(predicted) && shown == "excess")
      ylim <- range(ylim, pmax(predicted[is.finite(predicted)], ylim[1] / 10))
    if (ylim[1] == ylim[2]) ylim <- if (logarithmic) ylim * c(0.5, 2) else ylim + c(-1, 1)
  }
  empty_plot(rows$step, ylim, log, xlab = xlab, ylab = ylab, main = main, ...)
  key <- list(text = shown, colour = colours[["excess"]], type = 1, width = 3)
  add <- function(text, colour, type, width) {
    key$text <<- c(key$text, text)
    key$colour <<- c(key$colour, colours[[colour]])
    key$type <<- c(key$type, type)
    key$width <<- c(key$width, width)
  }
  lines(x, column = shown, lwd = 3)
  # On top, since a good prediction lies on the run.
  if (shown == "excess" && logarithmic) {
    if (!is.null(predicted)) {
      graphics::lines(rows$step, ifelse(predicted > 0, predicted, NA), col = colours[["predicted"]], lty = 2, lwd = 1.5)
      add("predicted", "predicted", 2, 1.5)
    }
    if (draw_slope(rows, theory[["slope"]], ylim)) add(sprintf("slope %.4g per step", theory[["slope"]]), "slope", 1, 1)
    if (!is.na(theory[["floor"]]) && theory[["floor"]] > ylim[1] && theory[["floor"]] < ylim[2]) {
      graphics::abline(h = theory[["floor"]], col = colours[["floor"]], lty = 3, lwd = 1.5)
      add("KL(noise || estimate)", "floor", 3, 1.5)
    }
  }
  hidden <- sum(is.finite(y) & y <= 0)
  if (logarithmic && hidden) {
    at <- rows$step[is.finite(y) & y <= 0]
    graphics::points(at, rep(ylim[1], length(at)), pch = 25, cex = 0.6, col = colours[["excess"]], bg = colours[["excess"]])
    if (is.null(sub)) sub <- paste(hidden, "values at or below 0, marked at the bottom")
  }
  if (!is.null(sub)) graphics::title(sub = sub)
  # A run that ends high, as one that diverges does, leaves the lower corner free.
  middle <- if (logarithmic) exp(mean(log(ylim))) else mean(ylim)
  if (isTRUE(legend))
    graphics::legend(if (y[max(which(is.finite(y)))] > middle) "bottomright" else "topright", legend = key$text, col = key$colour, lty = key$type, lwd = key$width, bty = "n")
  invisible(x)
}

# Columns of one's choice, each with its crossings: hollow points where it reached a value. Rows at log-spaced steps get a log axis.
plot_columns <- function(x, columns, main, xlab, ylab, ylim, legend, log, ...) {
  rows <- x$trajectory
  unknown <- setdiff(columns, names(rows))
  if (length(unknown)) refuse("the run has no column ", unknown[1], "; it has ", paste(names(rows), collapse = ", "))
  values <- as.matrix(rows[columns])
  finite <- values[is.finite(values)]
  if (!length(finite)) refuse("the run has no finite ", columns[1], " to draw")
  if (is.null(log)) log <- log_axes(x$options["record_per_decade"], all(finite > 0) && max(finite) > 100 * min(finite))
  if (grepl("y", log)) finite <- finite[finite > 0]
  shown <- if (grepl("x", log)) rows$step > 0 else rep(TRUE, nrow(rows))
  if (is.null(ylim)) ylim <- range(finite)
  colour <- rep_len(c("#1b4f9c", "#d1690e", "#2f8f4e", "#7b3f98", "#8a6d1f", "#555555"), length(columns))
  dash <- ifelse(columns == "predicted", 2, 1)
  empty_plot(rows$step, ylim, log, xlab = xlab, ylab = if (is.null(ylab)) toString(columns[seq_len(min(2, length(columns)))]) else ylab,
             main = if (is.null(main)) run_title(x) else main, ...)
  graphics::matlines(rows$step[shown], values[shown, , drop = FALSE], lty = dash, lwd = 2, col = colour)
  found <- x$crossings[x$crossings$signal %in% columns & !is.na(x$crossings$step), ]
  at <- colour[match(found$signal, columns)]
  graphics::points(found$step, found$after, col = at, lwd = 2)
  if (nrow(found)) graphics::text(found$step, found$after, paste0(" ", found$step), adj = c(0, 1.3), col = at, cex = 0.8)
  if (isTRUE(legend))
    graphics::legend(free_corner(rows$step[shown], values[shown, , drop = FALSE]), legend = columns, col = colour, lty = dash, lwd = 2,
                     bg = "#ffffffcc", box.col = NA, inset = 0.01)
  invisible(x)
}

# The corner of the present plot through which the fewest points go.
free_corner <- function(x, values) {
  box <- graphics::par("usr")
  share <- function(v, from, to, logged) ((if (logged) log10(ifelse(v > 0, v, NA)) else v) - from) / (to - from)
  u <- rep(share(x, box[1], box[2], graphics::par("xlog")), ncol(values))
  v <- share(as.vector(values), box[3], box[4], graphics::par("ylog"))
  crowd <- c(topright = sum(u > 0.65 & v > 0.75, na.rm = TRUE), topleft = sum(u < 0.35 & v > 0.75, na.rm = TRUE),
             bottomleft = sum(u < 0.35 & v < 0.25, na.rm = TRUE), bottomright = sum(u > 0.65 & v < 0.25, na.rm = TRUE))
  names(crowd)[which.min(crowd)]
}

# A line of the predicted slope to the right of the prediction, over its last half; whether there was room for one.
draw_slope <- function(rows, slope, ylim) {
  if (is.na(slope) || slope >= 0) return(FALSE)
  fits <- which(is.finite(rows$predicted) & rows$predicted > ylim[1] & rows$predicted < ylim[2])
  if (length(fits) < 2L) return(FALSE)
  first <- fits[ceiling(length(fits) / 2)]
  last <- fits[length(fits)]
  if (rows$step[last] <= rows$step[first]) return(FALSE)
  t <- seq(rows$step[first], rows$step[last], length.out = 101)
  # Through the end of the prediction, where it has the slope of the limit, and a little to its right.
  y <- rows$predicted[last] * exp(slope * (t - t[101]))
  right <- if (graphics::par("xlog")) 1.05 * t else t + 0.03 * diff(range(rows$step))
  graphics::lines(right, y, col = colours[["slope"]], lwd = 1)
  graphics::text(right[51], y[51], sprintf("%.4g", slope), pos = 4, col = colours[["slope"]], cex = 0.8)
  TRUE
}

run_title <- function(x) {
  words <- x$options[intersect(c("variant", "attention"), names(x$options))]
  noise <- x$options["noise"]
  size <- x$options[intersect(c("features", "prompt_length"), names(x$options))]
  paste0(x$task$name, ": ", paste(words, collapse = ", "), if (!is.na(noise)) paste0(", noise ", noise),
         if (length(size) == 2L) paste0(", K = ", size[1], ", N = ", size[2]))
}

lines.lamina_run <- function(x, column = "excess", col = "#1b4f9c", lwd = 2, ...) {
  y <- x$trajectory[[column]]
  if (is.null(y)) refuse("the run has no column ", column, "; it has ", paste(names(x$trajectory), collapse = ", "))
  if (graphics::par("ylog")) y[!is.na(y) & y <= 0] <- NA
  graphics::lines(x$trajectory$step, y, col = col, lwd = lwd, ...)
  invisible(x)
}
