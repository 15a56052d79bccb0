# SIGINT in the middle of a long run: it ends soon, what was computed is kept, and the run goes on when asked to.
library(lamina)

if (.Platform$OS.type != "unix") {
  cat("SKIPPED: no SIGINT here\n")
  quit(status = 0)
}

# The child writes its process id, then when it got what; this process sends the signal and says when.
folder <- tempfile()
dir.create(folder)
path <- function(name) file.path(folder, name)
code <- '
library(lamina)
folder <- commandArgs(TRUE)[1]
path <- function(name) file.path(folder, name)
told <- FALSE
ready <- function(p) if (!told && p$step > 100) {
  writeLines(as.character(Sys.getpid()), path("pid.part"))
  file.rename(path("pid.part"), path("pid"))
  told <<- TRUE
}
warned <- NULL
run <- withCallingHandlers(
  lamina_run("in_context_recall", samples = 512, steps = 1e9, record_every = 100, step_size = 1e-9, probes = "none", threads = 1,
             progress = if (PROGRESS) ready else FALSE),
  warning = function(w) { warned <<- conditionMessage(w); invokeRestart("muffleWarning") })
done <- as.numeric(Sys.time())
more <- suppressWarnings(lamina_continue(run, 5, progress = FALSE))
saveRDS(list(done = done, step = run$step, rows = nrow(run$trajectory), last = run$trajectory$step[nrow(run$trajectory)],
             status = run$status, interrupted = run$interrupted, warned = warned, more = more$step), path("result.part"))
file.rename(path("result.part"), path("result"))
'
wait <- function(name, seconds) {
  until <- Sys.time() + seconds
  while (!file.exists(path(name)) && Sys.time() < until) Sys.sleep(0.02)
  if (!file.exists(path(name))) stop("the child did not write ", name, " in ", seconds, " s: ", paste(readLines(path("log")), collapse = "\n"))
}
writeLines(gsub("PROGRESS", "TRUE", code), path("child.R"))
system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", path("child.R"), folder), stdout = path("log"), stderr = path("log"), wait = FALSE)
wait("pid", 60)
child <- as.integer(readLines(path("pid")))
Sys.sleep(0.5)
sent <- as.numeric(Sys.time())
tools::pskill(child, tools::SIGINT)
wait("result", 60)
result <- readRDS(path("result"))
cat(sprintf("interrupted after %.0f ms at step %.0f with %.0f rows\n", 1000 * (result$done - sent), result$step, result$rows))
stopifnot(result$status == "LAMINA_STOPPED", result$interrupted, grepl("^interrupted at step", result$warned))
stopifnot(result$step > 100, result$rows == result$step %/% 100 + 1, result$last == 100 * (result$step %/% 100))
stopifnot(result$more == result$step + 5)
# A look every 100 ms, at most a step (about a millisecond) later, and the copy of the rows. Twice that on a crowded machine
# is told apart from an interrupt that waits for the end of the run.
stopifnot(result$done - sent < if (nzchar(Sys.getenv("LAMINA_CROWDED"))) 2 else 0.2)
