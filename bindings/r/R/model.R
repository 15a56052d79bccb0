# Models: parameters as named arrays, predictions on the user's own prompts, loss and gradient.

new_model <- function(pointer, task) structure(list(pointer = pointer, task = task), class = "lamina_model")

lamina_model <- function(task, ...) {
  task <- as_task(task, list(...))
  given <- prepare_options(list(...), catalogue(task$name))
  new_model(.Call(shim_model_create, task$pointer, given$keys, given$values, given$arrays), task)
}

model_of <- function(x) {
  if (inherits(x, "lamina_model")) return(x)
  if (inherits(x, "lamina_run")) return(x$model)
  if (inherits(x, "lamina_trainer")) return(new_model(.Call(shim_trainer_model, x$pointer), x$task))
  refuse("not a model or a run of lamina: ", class(x)[1])
}

# The library's tensors are row-major: their dimensions are reversed on the way in and out, so that W[i, j] is W[i, j].
to_arrays <- function(values, tensors) {
  arrays <- lapply(seq_along(tensors$name), function(i) {
    shape <- tensors$shape[[i]]
    part <- values[tensors$offset[i] + seq_len(prod(shape))]
    if (length(shape) < 2L) part else aperm(array(part, rev(shape)))
  })
  stats::setNames(arrays, tensors$name)
}

from_arrays <- function(arrays, values, tensors) {
  if (!is.list(arrays) || is.null(names(arrays))) refuse("parameters must be a named list, as parameters(x) gives it")
  unknown <- setdiff(names(arrays), tensors$name)
  if (length(unknown))
    refuse("there is no parameter ", unknown[1], "; there are ", paste(tensors$name, collapse = ", "))
  for (i in match(names(arrays), tensors$name)) {
    name <- tensors$name[i]
    shape <- tensors$shape[[i]]
    part <- as_numbers(arrays[[name]], paste("parameter", name))
    own <- if (is.null(dim(part))) length(part) else dim(part)
    if (!identical(as.double(own), shape))
      refuse("parameter ", name, " has dimensions ", paste(own, collapse = " x "), ", must have ", paste(shape, collapse = " x "))
    values[tensors$offset[i] + seq_len(prod(shape))] <- if (length(shape) < 2L) part else aperm(part)
  }
  values
}

parameters <- function(object, ...) UseMethod("parameters")
`parameters<-` <- function(object, ..., value) UseMethod("parameters<-")

parameters.lamina_model <- function(object, trained = FALSE, ...) {
  tensors <- .Call(shim_model_tensors, object$pointer)
  arrays <- to_arrays(.Call(shim_model_get, object$pointer), tensors)
  if (trained) arrays[tensors$trained] else arrays
}
parameters.lamina_run <- function(object, trained = FALSE, ...) parameters(object$model, trained)
parameters.lamina_trainer <- function(object, trained = FALSE, ...) parameters(model_of(object), trained)

# A changed copy, as R's values are: no other model changes.
`parameters<-.lamina_model` <- function(object, ..., value) {
  tensors <- .Call(shim_model_tensors, object$pointer)
  values <- from_arrays(value, .Call(shim_model_get, object$pointer), tensors)
  copy <- .Call(shim_model_copy, object$pointer)
  .Call(shim_model_set, copy, values)
  object$pointer <- copy
  object
}
`parameters<-.lamina_run` <- function(object, ..., value) {
  parameters(object$model) <- value
  object
}

coef.lamina_model <- function(object, ...) parameters(object, trained = TRUE)
coef.lamina_run <- function(object, ...) parameters(object$model, trained = TRUE)

# Whether the library's side of an object is there: it is not after save and load of the R object.
is_alive <- function(pointer, call, what) {
  tryCatch({
    .Call(call, pointer)
    TRUE
  }, error = function(e) {
    cat("lamina ", what, " of another session of R\n", sep = "")
    FALSE
  })
}

print.lamina_model <- function(x, ...) {
  if (!is_alive(x$pointer, shim_model_isa, "model")) return(invisible(x))
  tensors <- .Call(shim_model_tensors, x$pointer)
  cat("lamina model for task ", x$task$name, ", running ", .Call(shim_model_isa, x$pointer), "\n", sep = "")
  for (i in seq_along(tensors$name))
    cat("  ", tensors$name[i], " [", paste(tensors$shape[[i]], collapse = ", "), "] ",
        if (tensors$trained[i]) "trained" else "held", "\n", sep = "")
  invisible(x)
}

predict.lamina_model <- function(object, prompts,
                                 type = c("logits", "probabilities", "attention_only", "feed_forward_only", "weights"), ...) {
  type <- match.arg(type)
  rows <- prompt_matrix(prompts, object$task)
  part <- switch(type, logits = , probabilities = 0L, attention_only = 1L, feed_forward_only = 2L, weights = -1L)
  out <- t(.Call(shim_model_forward, object$pointer, rows, part))
  if (type == "weights") return(out)
  colnames(out) <- lamina_tokens(object$task)
  if (type != "probabilities") return(out)
  shifted <- exp(out - apply(out, 1L, max))
  shifted / rowSums(shifted)
}
predict.lamina_run <- function(object, prompts, ...) predict(object$model, prompts, ...)

lamina_loss_gradient <- function(model, prompts, targets) {
  model <- model_of(model)
  rows <- prompt_matrix(prompts, model$task)
  out <- .Call(shim_model_loss_gradient, model$pointer, rows, target_matrix(targets, ncol(rows), model$task$target_width))
  list(loss = out$loss, gradient = to_arrays(out$gradient, .Call(shim_model_tensors, model$pointer)))
}
