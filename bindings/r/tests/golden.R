# The golden trajectories, which every language reproduces bit for bit. LAMINA_GOLDEN is their folder; without it they are
# looked for beside the build directory LAMINA_BUILD.
library(lamina)

folder <- Sys.getenv("LAMINA_GOLDEN")
if (!nzchar(folder) && nzchar(Sys.getenv("LAMINA_BUILD"))) folder <- file.path(Sys.getenv("LAMINA_BUILD"), "..", "tests", "golden")
files <- if (nzchar(folder)) list.files(folder, "[.]csv$", full.names = TRUE)
if (!nzchar(folder)) {
  cat("SKIPPED: neither LAMINA_GOLDEN nor LAMINA_BUILD is set, so there are no golden trajectories\n")
} else {
  stopifnot(length(files) >= 1)
}

# Reads "0x1.8p+1" exactly; signs of zero count, so identical() is told to see them.
same <- function(x, y) identical(x, y, num.eq = FALSE)

for (file in files) {
  lines <- readLines(file)
  head <- grepl("^# ", lines)
  pairs <- regmatches(sub("^# ", "", lines[head]), regexpr("=", sub("^# ", "", lines[head])), invert = TRUE)
  settings <- setNames(lapply(pairs, `[`, 2), vapply(pairs, `[`, "", 1))
  rows <- strsplit(lines[!head], ",", fixed = TRUE)
  expected <- t(vapply(rows[-1], as.numeric, numeric(length(rows[[1]]))))
  name <- settings$task
  settings$task <- NULL
  run <- do.call(lamina_run, c(list(name), settings, progress = FALSE))
  got <- as.data.frame(run)
  stopifnot(same(names(got), rows[[1]]), nrow(got) == nrow(expected))
  for (i in seq_along(got)) stopifnot(same(got[[i]], expected[, i]))

  # A number in R gives the bits that its text gives.
  numeric <- lapply(settings, function(x) if (is.na(suppressWarnings(as.numeric(x)))) x else as.numeric(x))
  again <- do.call(lamina_run, c(list(name), numeric, progress = FALSE, threads = 1))
  stopifnot(same(as.data.frame(again), got))
  cat("golden:", basename(file), nrow(got), "rows\n")
}
