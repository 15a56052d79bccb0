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
done <- c(as.numeric(Sys.time()), sum(proc.time()[1:2]))
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
# Seconds of the clock, and of computing by the child (fields 14 and 15 of its stat file, in hundredths).
computed <- if (file.exists(file.path("/proc", child, "stat")))
  sum(as.numeric(strsplit(sub(".*\\) ", "", readLines(file.path("/proc", child, "stat"))), " ")[[1]][12:13])) / 100 else NA
sent <- c(as.numeric(Sys.time()), computed)
tools::pskill(child, tools::SIGINT)
wait("result", 60)
result <- readRDS(path("result"))
took <- result$done - sent
cat(sprintf("interrupted: %.0f ms later by the clock, %.0f ms by computing, at step %.0f with %.0f rows\n", 1000 * took[1],
            1000 * took[2], result$step, result$rows))
stopifnot(result$status == "LAMINA_STOPPED", result$interrupted, grepl("^interrupted at step", result$warned))
stopifnot(result$step > 100, result$rows == result$step %/% 100 + 1, result$last == 100 * (result$step %/% 100))
stopifnot(result$more == result$step + 5)
# A look every 100 ms, and a step of about a millisecond. What other processes take on a crowded machine does not count,
# but within seconds it ends in any case: the run has a day to go.
stopifnot(is.na(took[2]) || took[2] < 0.2, took[1] < if (is.na(took[2])) 0.2 else 10)
