# What the package keeps for the session, and how a failure of the library becomes an R condition.

# An error of an R function that lamina called back; raised again once the library has returned.
pending <- new.env(parent = emptyenv())

# Calls `f`, which lamina called: its error is kept, and `otherwise` returned.
shield <- function(f, otherwise = NULL) {
  tryCatch(f(), error = function(e) {
    pending$error <- e
    otherwise
  })
}

# Raises the error that an R function kept, if one did.
raise_pending <- function() {
  e <- pending$error
  pending$error <- NULL
  if (!is.null(e)) stop(e)
}

# Called by the shim for every failing call of the library.
raise <- function(status, name, text) {
  raise_pending()
  stop(structure(class = c(name, "lamina_error", "error", "condition"),
                 list(message = text, call = NULL, status = status, status_name = name)))
}

# An error of an argument that R alone can judge, of the same class.
refuse <- function(...) raise(-1L, "LAMINA_E_ARGUMENT", paste0(...))

# R CMD check allows two cores.
default_threads <- function() {
  limit <- Sys.getenv("_R_CHECK_LIMIT_CORES_")
  if (nzchar(limit) && !tolower(limit) %in% c("false", "no", "0")) 2 else 0
}

# `x` as doubles; not copied if it holds doubles already.
as_numbers <- function(x, what) {
  if (!is.numeric(x) && !is.logical(x)) refuse(what, " is of class ", class(x)[1], ", must be numeric")
  if (storage.mode(x) != "double") storage.mode(x) <- "double"
  x
}

as_count <- function(x, what) {
  if (!is.numeric(x) || length(x) != 1L || is.na(x)) refuse(what, " must be one number")
  as.double(x)
}
