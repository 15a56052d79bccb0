# Attention and its gradient on R's own arrays; doubles are not copied.

# Where batch, head, position and feature stand among R's dimensions: list(inputs, layout, settings) for the shim.
prepare_attention <- function(q, k, v, causal, map, normaliser, scale, bias, mask, window, query_lengths, key_lengths,
                              query_offsets, key_offsets, relu_at_zero, layout, threads, isa) {
  letters <- strsplit(layout, "", fixed = TRUE)[[1]]
  if (!identical(sort(letters), c("B", "D", "H", "L"))) refuse("layout is \"", layout, "\", must be L, D, H and B in some order")
  if (is.logical(causal)) causal <- if (isTRUE(causal)) "top_left" else "none"
  number <- function(value, words, what) {
    at <- match(value, words)
    if (length(at) != 1L || is.na(at)) refuse(what, " is \"", value[1], "\", must be one of ", paste(words, collapse = ", "))
    at
  }
  if (is.null(query_lengths) != is.null(key_lengths)) refuse("query_lengths and key_lengths must be given together")
  if (is.null(query_offsets) && !is.null(key_offsets)) refuse("key_offsets must be given together with query_offsets")
  if (is.null(key_offsets)) key_offsets <- query_offsets
  if (!is.null(mask)) {
    shape <- dim(mask)
    if (anyNA(mask)) refuse("mask has a missing value")
    mask <- as.raw(mask != 0)
    dim(mask) <- shape
  }
  window <- rep_len(as.double(window), 2L)
  limited <- is.finite(window)
  if (!is.null(scale) && (!is.numeric(scale) || length(scale) != 1L)) refuse("scale must be one number or NULL")
  # Flags of lamina.h: LAMINA_SCALE_IS_ZERO, LAMINA_WINDOW_LEFT, LAMINA_WINDOW_RIGHT.
  flags <- (!is.null(scale) && isTRUE(scale == 0)) * 1L + limited[1] * 128L + limited[2] * 256L
  if (is.null(threads)) threads <- default_threads()
  numbers <- function(x, what) if (!is.null(x)) as_numbers(x, what)
  list(
    inputs = list(as_numbers(q, "q"), as_numbers(k, "k"), as_numbers(v, "v"), numbers(bias, "bias"), mask,
                  numbers(query_lengths, "query_lengths"), numbers(key_lengths, "key_lengths"),
                  numbers(query_offsets, "query_offsets"), numbers(key_offsets, "key_offsets")),
    layout = match(c("B", "H", "L", "D"), letters) - 1L,
    settings = list(
      as.integer(c(number(map, c("softmax", "linear", "relu"), "map"),
                   number(normaliser, c("default", "none", "visible", "row_sum"), "normaliser") - 1L,
                   number(causal, c("none", "top_left", "bottom_right"), "causal") - 1L,
                   as_count(threads, "threads"), flags)),
      c(ifelse(limited, window, 0), if (is.null(scale)) 0 else as.double(scale), as_count(relu_at_zero, "relu_at_zero")),
      as.character(isa)))
}

lamina_attention <- function(q, k, v, causal = FALSE, map = "softmax", normaliser = "default", scale = NULL, bias = NULL,
                             mask = NULL, window = c(Inf, Inf), query_lengths = NULL, key_lengths = NULL,
                             query_offsets = NULL, key_offsets = NULL, relu_at_zero = 0,
                             lse = FALSE, weights = FALSE, scores = FALSE, layout = "LDHB", threads = NULL, isa = "") {
  call <- prepare_attention(q, k, v, causal, map, normaliser, scale, bias, mask, window, query_lengths, key_lengths,
                            query_offsets, key_offsets, relu_at_zero, layout, threads, isa)
  wanted <- c(isTRUE(lse), isTRUE(weights), isTRUE(scores))
  .Call(shim_attention, call$inputs, call$layout, call$settings, wanted)[c(TRUE, wanted)]
}

lamina_attention_gradient <- function(q, k, v, d_output, d_lse = NULL, d_weights = NULL, causal = FALSE, map = "softmax",
                                      normaliser = "default", scale = NULL, bias = NULL, mask = NULL, window = c(Inf, Inf),
                                      query_lengths = NULL, key_lengths = NULL, query_offsets = NULL,
                                      key_offsets = NULL, relu_at_zero = 0, layout = "LDHB",
                                      threads = NULL, isa = "") {
  call <- prepare_attention(q, k, v, causal, map, normaliser, scale, bias, mask, window, query_lengths, key_lengths,
                            query_offsets, key_offsets, relu_at_zero, layout, threads, isa)
  numbers <- function(x, what) if (!is.null(x)) as_numbers(x, what)
  out <- .Call(shim_attention_gradient, call$inputs, call$layout, call$settings,
               list(as_numbers(d_output, "d_output"), numbers(d_lse, "d_lse"), numbers(d_weights, "d_weights")))
  out[!vapply(out, is.null, NA)]
}
