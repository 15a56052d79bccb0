# Tasks: by name, from a matrix of prompts, from an R function; samples of them, and the names of tokens.

# list(keys, values, arrays) for the shim, from the named arguments of the user; `table` is the catalogue of the task.
prepare_options <- function(options, table = NULL) {
  keys <- names(options)
  if (length(options) && (is.null(keys) || any(!nzchar(keys)))) refuse("every option must be named, as in noise = 0.5")
  if (anyDuplicated(keys)) refuse("option ", keys[duplicated(keys)][1], " is given twice")
  is_array <- keys %in% table$name[table$kind == "array"]
  is_text <- keys %in% table$name[table$kind == "text"]
  values <- lapply(seq_along(options), function(i) {
    value <- options[[i]]
    if (is.factor(value)) value <- as.character(value)
    if (is.character(value)) {
      if (is_text[i] && !anyNA(value)) value <- paste(value, collapse = ",")
      if (length(value) != 1L || is.na(value)) refuse("option ", keys[i], " must be one text")
      return(enc2utf8(if (keys[i] == "file") path.expand(value) else value))
    }
    if (is.logical(value) && length(value) == 1L && !is.na(value)) return(if (value) "yes" else "no")
    if (!is.numeric(value)) refuse("option ", keys[i], " is of class ", class(value)[1], ", must be a number, a text or TRUE or FALSE")
    if (is.matrix(value)) value <- t(value)  # rows follow one another in the library
    if (length(value) != 1L && !is_array[i]) refuse("option ", keys[i], " has ", length(value), " values, must have one")
    as.double(value)
  })
  list(keys = as.character(keys), values = values, arrays = as.logical(is_array))
}

new_task <- function(pointer, options = list()) {
  shape <- .Call(shim_task_shape, pointer)
  structure(list(pointer = pointer, name = shape$name, length = shape$length, vocabulary = shape$vocabulary,
                 outputs = shape$outputs, target_width = shape$target_width, options = options), class = "lamina_task")
}

lamina_task <- function(name, ...) {
  if (!is.character(name) || length(name) != 1L || is.na(name)) refuse("name must be the name of a task")
  options <- list(...)
  given <- prepare_options(options, catalogue(name))
  new_task(.Call(shim_task_create, enc2utf8(name), given$keys, given$values, given$arrays), options)
}

# The task of anything that has one.
task_of <- function(x) {
  if (inherits(x, "lamina_task")) return(x)
  if (inherits(x, c("lamina_run", "lamina_model", "lamina_trainer"))) return(x$task)
  refuse("not a task, a model or a run of lamina: ", class(x)[1])
}

print.lamina_task <- function(x, ...) {
  tau <- if (x$outputs > x$vocabulary) paste0(" and ", x$vocabulary, " for tau")
  what <- if (x$vocabulary > 0) paste0(" tokens, tokens 0..", x$vocabulary - 1, tau) else " numbers"
  cat("lamina task ", x$name, ": prompts of ", x$length, what, "\n", sep = "")
  invisible(x)
}

lamina_tokens <- function(task) .Call(shim_task_tokens, task_of(task)$pointer)

# Prompts of the user as doubles [length, count]: one row a prompt, tokens as numbers from 0 or as names.
prompt_matrix <- function(prompts, task) {
  if (is.data.frame(prompts)) prompts <- as.matrix(prompts)
  if (is.null(dim(prompts))) prompts <- matrix(prompts, nrow = 1L)
  if (length(dim(prompts)) != 2L) refuse("prompts must be a matrix, one row a prompt")
  if (is.character(prompts)) {
    tokens <- match(enc2utf8(prompts), lamina_tokens(task)) - 1
    if (anyNA(tokens)) refuse("prompts has the token \"", prompts[is.na(tokens)][1], "\", must be names that lamina_tokens() lists")
    prompts <- matrix(tokens, nrow(prompts))
  }
  if (!is.numeric(prompts)) refuse("prompts must be numbers or names of tokens")
  if (anyNA(prompts)) refuse("prompts has a missing value")
  out <- t(unname(prompts))
  storage.mode(out) <- "double"
  out
}

# Labels and answers, or laws, as doubles [width, count].
target_matrix <- function(targets, count, width = 2L) {
  if (is.data.frame(targets)) targets <- as.matrix(targets)
  if (!is.numeric(targets) || length(dim(targets)) != 2L || ncol(targets) != width || nrow(targets) != count)
    refuse("targets must be a matrix of ", count, " rows (one a prompt) and ", width, " columns", if (width == 2L) " (label, answer)")
  if (!is.null(colnames(targets)) && setequal(colnames(targets), c("label", "answer")))
    targets <- targets[, c("label", "answer"), drop = FALSE]
  if (anyNA(targets)) refuse("targets has a missing value")
  out <- t(unname(targets))
  storage.mode(out) <- "double"
  out
}

lamina_sample <- function(task, count = 10, split = c("train", "test", "unseen"), seed = 1, first = 0) {
  split <- match.arg(split)
  number <- match(split, c("train", "test", "unseen")) - 1L
  drawn <- .Call(shim_task_sample, task_of(task)$pointer, number, as_count(seed, "seed"), as_count(first, "first"),
                 as_count(count, "count"))
  # A task without a vocabulary has features and labels, which are not tokens.
  whole <- function(x) {
    if (task_of(task)$vocabulary > 0) storage.mode(x) <- "integer"
    t(x)
  }
  labelled <- nrow(drawn[[2]]) == 2L  # else a law of what follows
  targets <- if (labelled) whole(drawn[[2]]) else t(drawn[[2]])
  if (labelled) colnames(targets) <- c("label", "answer")
  list(prompts = whole(drawn[[1]]), targets = targets)
}

lamina_task_from_matrix <- function(prompts, label, answer = label, vocabulary = max(prompts, label, answer) + 1, noise = 0) {
  if (is.character(prompts)) refuse("prompts must be numbers: a task of one's own has no names of tokens")
  rows <- prompt_matrix(prompts, NULL)
  targets <- target_matrix(cbind(label, answer, deparse.level = 0), ncol(rows))
  new_task(.Call(shim_task_from_matrix, rows, targets, as_count(vocabulary, "vocabulary"), as_count(noise, "noise")))
}

lamina_task_from_function <- function(sampler, length, vocabulary, noise = 0) {
  if (!is.function(sampler)) refuse("sampler must be a function of split, seed, first and count")
  length <- as_count(length, "length")
  splits <- c("train", "test", "unseen")
  checked <- function(split, seed, first, count) shield(function() {
    drawn <- sampler(splits[split + 1L], seed, first, count)
    if (!is.list(drawn) || !all(c("prompts", "targets") %in% names(drawn)))
      refuse("the sampler must return list(prompts = , targets = )")
    prompts <- prompt_matrix(drawn$prompts, NULL)
    if (nrow(prompts) != length || ncol(prompts) != count)
      refuse("the sampler returned prompts of ", ncol(prompts), " rows and ", nrow(prompts), " columns, must be ", count,
             " and ", length)
    list(prompts, target_matrix(drawn$targets, count))
  })
  new_task(.Call(shim_task_from_function, list(checked, length), as_count(vocabulary, "vocabulary"), as_count(noise, "noise")))
}
