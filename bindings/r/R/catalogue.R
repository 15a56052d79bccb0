# What there is: tasks, probes, closed forms and options, from the library's catalogue.

kinds <- c("number", "integer", "word", "text", "array", "name")

catalogue <- function(scope) {
  columns <- .Call(shim_catalogue, enc2utf8(as.character(scope)))
  if (is.null(columns)) return(NULL)
  columns$kind <- factor(columns$kind, seq_along(kinds), kinds)
  data.frame(columns, stringsAsFactors = FALSE, check.names = FALSE)
}

lamina_list <- function(what = c("tasks", "probes", "theory")) {
  what <- match.arg(what)
  rows <- catalogue(what)
  rows <- switch(what,
    tasks = rows[c("name", "summary", "description")],
    probes = rows[c("name", "summary")],
    theory = data.frame(name = rows$name, signature = rows$description, task = rows$owner == "task", summary = rows$summary))
  structure(rows, class = c("lamina_list", "data.frame"), what = what)
}

lamina_describe <- function(name) {
  if (inherits(name, c("lamina_task", "lamina_run", "lamina_trainer", "lamina_model"))) name <- task_of(name)$name
  if (!is.character(name) || length(name) != 1L || is.na(name)) refuse("name must be one text")
  options <- if (!name %in% c("tasks", "probes", "theory")) catalogue(name)
  if (!is.null(options)) {
    about <- catalogue("tasks")
    return(structure(options[setdiff(names(options), "description")], class = c("lamina_description", "data.frame"),
                     about = about[about$name == name, ], name = name))
  }
  for (scope in c("probes", "theory")) {
    rows <- lamina_list(scope)
    if (name %in% rows$name) return(rows[rows$name == name, ])
  }
  for (task in catalogue("tasks")$name) {
    options <- catalogue(task)
    if (name %in% options$name) {
      return(structure(options[options$name == name, setdiff(names(options), "description")],
                       class = c("lamina_description", "data.frame")))
    }
  }
  refuse("name is \"", name, "\", must be an option, a task (", paste(catalogue("tasks")$name, collapse = ", "), "), a probe (",
         paste(catalogue("probes")$name, collapse = ", "), ") or a closed form (",
         paste(catalogue("theory")$name, collapse = ", "), ")")
}

wrap <- function(text, indent = 2) {
  writeLines(strwrap(text, width = getOption("width"), indent = indent, exdent = indent))
}

# What is true of an option's value: its default and what is allowed.
allowed <- function(row) {
  limits <- if (nzchar(row$words)) gsub("|", " | ", row$words, fixed = TRUE)
    else if (row$kind %in% c("number", "integer")) paste0(row$kind, " in [", format(row$minimum), ", ", format(row$maximum), "]")
    else as.character(row$kind)
  paste0(if (nzchar(row$default)) paste0("= ", row$default), "  (", limits, ")")
}

print.lamina_list <- function(x, ...) {
  if (is.null(x$name)) return(NextMethod())
  for (i in seq_len(nrow(x))) {
    cat(x$name[i], if (!is.null(x$signature)) paste0(":  ", x$signature[i], if (x$task[i]) "   [reads a task]"), "\n", sep = "")
    wrap(x$summary[i])
  }
  if (identical(attr(x, "what"), "tasks")) cat("\nlamina_describe(name) lists the options of one.\n")
  invisible(x)
}

print.lamina_description <- function(x, ...) {
  if (is.null(x$name) || is.null(x$summary) || is.null(x$owner)) return(NextMethod())
  about <- attr(x, "about")
  if (NROW(about)) {
    cat(attr(x, "name"), "\n", sep = "")
    wrap(about$summary)
    if (nzchar(about$description)) wrap(about$description)
  }
  for (owner in unique(x$owner)) {
    cat(if (NROW(about)) "\n", "options of the ", owner, "\n", sep = "")
    rows <- x[x$owner == owner, ]
    for (i in seq_len(nrow(rows))) {
      cat("  ", rows$name[i], " ", allowed(rows[i, ]), "\n", sep = "")
      wrap(rows$summary[i], 6)
    }
  }
  invisible(x)
}

lamina_info <- function() structure(.Call(shim_info), class = "lamina_info")

print.lamina_info <- function(x, ...) {
  cat("lamina ", x$version, " (ABI ", x$abi, ")\n", sep = "")
  cat("instruction sets, fastest first:", paste(x$isa, collapse = ", "), "\n")
  wrap(x$build, 0)
  invisible(x)
}
