# Closed forms by name, at vectors of arguments.

# "step_size, t, normalisation -> lambda" as list(arguments, results).
signature_of <- function(text) {
  sides <- trimws(strsplit(text, "->", fixed = TRUE)[[1]])
  lapply(sides, function(side) if (nzchar(side)) trimws(strsplit(side, ",", fixed = TRUE)[[1]]) else character())
}

# A form takes a word, such as the normalisation "l1", as its place among the words of the option of that name, from 0.
word_number <- function(value, name) {
  if (!is.character(value)) return(as_numbers(value, paste("argument", name)))
  options <- catalogue("in_context_recall")
  words <- strsplit(options$words[options$name == name], "|", fixed = TRUE)
  if (!length(words) || !all(value %in% words[[1]]))
    refuse("argument ", name, " is \"", value[1], "\", must be ", if (length(words)) paste(words[[1]], collapse = ", ") else "numbers")
  match(value, words[[1]]) - 1
}

# A form of a matrix, or of several things in one vector, takes it whole, row by row; results < 0: a gradient of its shape.
theory_of_matrix <- function(name, task, whole, results) {
  Q <- as.matrix(whole)
  out <- .Call(shim_theory, name, task$pointer, matrix(as.double(t(Q)), ncol = 1L), if (results < 0) as.double(length(Q)) else results)
  if (results < 0 && is.matrix(whole)) matrix(out, nrow(Q), ncol(Q), byrow = TRUE) else as.vector(out)
}

lamina_theory <- function(name, ..., task = NULL) {
  forms <- catalogue("theory")
  if (!is.character(name) || length(name) != 1L || !name %in% forms$name)
    refuse("name must be one of ", paste(forms$name, collapse = ", "))
  form <- forms[forms$name == name, ]
  sides <- signature_of(form$description)
  given <- list(...)
  keys <- if (is.null(names(given))) rep("", length(given)) else names(given)
  own <- !nzchar(keys) | keys %in% sides[[1]]
  options <- given[!own]
  if (length(options) && form$owner != "task") refuse(name, " has no argument ", names(options)[1], ": it is ", form$description)
  if (form$owner == "task") task <- if (is.null(task)) as_task(strsplit(form$words, "|", fixed = TRUE)[[1]][1], options)
    else as_task(if (is.character(task)) task else task_of(task), options)

  if (form$minimum < 0) {
    if (sum(own) != 1L) refuse(name, " takes one array, ", sum(own), " arguments given: it is ", form$description)
    return(theory_of_matrix(name, task, given[own][[1]], form$maximum))
  }
  # Named arguments take their places, the others the places left.
  values <- vector("list", length(sides[[1]]))
  at <- match(keys[own], sides[[1]])
  free <- setdiff(seq_along(values), at)
  if (sum(is.na(at)) > length(free) || anyDuplicated(at[!is.na(at)]) || sum(own) != length(values))
    refuse(name, " takes ", length(values), " arguments, ", sum(own), " given: it is ", form$description)
  at[is.na(at)] <- free[seq_len(sum(is.na(at)))]
  values[at] <- Map(word_number, given[own], sides[[1]][at])
  rows <- if (length(values)) max(lengths(values)) else 1L
  if (any(lengths(values) == 0L)) rows <- 0L
  table <- matrix(as.double(unlist(lapply(values, rep_len, rows))), nrow = length(values), ncol = rows, byrow = TRUE)
  out <- .Call(shim_theory, name, task$pointer, table, form$maximum)
  rownames(out) <- if (length(sides[[2]]) == nrow(out)) sides[[2]]
  if (nrow(out) == 1L) as.vector(out) else if (ncol(out) == 1L) out[, 1L] else t(out)
}
