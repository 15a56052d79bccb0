# Attention against plain R, its gradient against differences; layouts, heads, masks.
library(lamina)
set.seed(7)

# One head of one sequence in plain R.
naive <- function(q, k, v, see, map = "softmax", normaliser = "default", scale = 1 / sqrt(ncol(q)), bias = 0) {
  S <- scale * (q %*% t(k)) + bias
  w <- switch(map, softmax = exp(S - apply(S, 1, max)), linear = S, relu = pmax(S, 0)) * see
  if (map == "softmax" || normaliser == "row_sum") w <- w / rowSums(w)
  if (normaliser == "visible") w <- w / rowSums(see)
  w %*% v
}
near <- function(x, y, tolerance = 1e-12) stopifnot(identical(dim(x), dim(y)), max(abs(x - y)) <= tolerance * max(1, abs(y)))

q <- matrix(rnorm(7 * 5), 7)
k <- matrix(rnorm(9 * 5), 9)
v <- matrix(rnorm(9 * 4), 9)
all_seen <- matrix(1, 7, 9)
lower <- outer(1:7, 1:9, ">=") * 1
late <- outer(1:7, 1:9, function(i, j) j <= i + 2) * 1
near(lamina_attention(q, k, v)$output, naive(q, k, v, all_seen))
near(lamina_attention(q, k, v, causal = TRUE)$output, naive(q, k, v, lower))
near(lamina_attention(q, k, v, causal = "bottom_right")$output, naive(q, k, v, late))
near(lamina_attention(q, k, v, map = "linear", scale = 0.7)$output, naive(q, k, v, all_seen, "linear", scale = 0.7))
near(lamina_attention(q, k, v, map = "relu", normaliser = "visible", causal = TRUE)$output,
     naive(q, k, v, lower, "relu", "visible"))
near(lamina_attention(q, k, v, scale = 0)$output, matrix(colMeans(v), 7, 4, byrow = TRUE))
bias <- matrix(rnorm(63), 7)
mask <- matrix(runif(63) < 0.6, 7)
mask[, 1] <- TRUE
near(lamina_attention(q, k, v, bias = bias, mask = mask)$output, naive(q, k, v, mask * 1, bias = bias))
band <- outer(1:7, 1:9, function(i, j) j >= i - 2 & j <= i + 1) * 1
near(lamina_attention(q, k, v, window = c(2, 1))$output, naive(q, k, v, band))

full <- lamina_attention(q, k, v, lse = TRUE, weights = TRUE, scores = TRUE)
S <- q %*% t(k) / sqrt(5)
near(full$scores, S)
near(full$weights, exp(S) / rowSums(exp(S)))
stopifnot(is.null(dim(full$lse)), max(abs(full$lse - log(rowSums(exp(S))))) < 1e-12)
stopifnot(identical(names(lamina_attention(q, k, v)), "output"))
integers <- matrix(1:6, 3)
near(lamina_attention(integers, integers, integers)$output, naive(integers, integers, integers, matrix(1, 3, 3)))

# Heads, batches, fewer key heads, in every layout.
many <- array(rnorm(6 * 3 * 4 * 2), c(6, 3, 4, 2))
keys <- array(rnorm(8 * 3 * 2 * 2), c(8, 3, 2, 2))
values <- array(rnorm(8 * 5 * 2 * 2), c(8, 5, 2, 2))
out <- lamina_attention(many, keys, values, weights = TRUE, lse = TRUE)
stopifnot(identical(dim(out$output), c(6L, 5L, 4L, 2L)), identical(dim(out$weights), c(6L, 8L, 4L, 2L)),
          identical(dim(out$lse), c(6L, 4L, 2L)))
for (b in 1:2) for (h in 1:4) {
  g <- 1 + ((h - 1) * 2) %/% 4
  near(out$output[, , h, b], naive(many[, , h, b], keys[, , g, b], values[, , g, b], matrix(1, 6, 8)))
}
axes <- c(L = 1, D = 2, H = 3, B = 4)
for (layout in c("DLHB", "DHLB", "BHLD", "HDBL")) {
  order <- axes[strsplit(layout, "")[[1]]]
  turned <- lamina_attention(aperm(many, order), aperm(keys, order), aperm(values, order), layout = layout)$output
  stopifnot(identical(turned, aperm(out$output, order)))
}
short <- lamina_attention(many, keys, values, query_lengths = c(6, 4), key_lengths = c(8, 3))$output
near(short[1:4, , 1, 2], naive(many[1:4, , 1, 2], keys[1:3, , 1, 2], values[1:3, , 1, 2], matrix(1, 4, 3)))
stopifnot(all(short[5:6, , , 2] == 0))

# Packed sequences are a loop over them.
rows <- c(0, 2, 2, 6)
cols <- c(0, 3, 7, 8)
packed <- list(q = many[, , , 1], k = keys[, , , 1], v = values[, , , 1])
joined <- lamina_attention(packed$q, packed$k, packed$v, query_offsets = rows, key_offsets = cols, weights = TRUE, lse = TRUE)
slopes <- lamina_attention_gradient(packed$q, packed$k, packed$v, joined$output, query_offsets = rows, key_offsets = cols)
stopifnot(identical(dim(joined$output), c(6L, 5L, 4L)), identical(dim(joined$lse), c(6L, 4L)),
          identical(dim(joined$weights), c(4L, 4L, 4L, 3L)))
for (b in c(1, 3)) {
  i <- seq(rows[b] + 1, rows[b + 1])
  j <- seq(cols[b] + 1, cols[b + 1])
  one <- lamina_attention(packed$q[i, , ], packed$k[j, , , drop = FALSE], packed$v[j, , , drop = FALSE], weights = TRUE, lse = TRUE)
  stopifnot(identical(joined$output[i, , ], one$output), identical(joined$lse[i, ], one$lse),
            identical(joined$weights[seq_along(i), seq_along(j), , b, drop = TRUE], drop(one$weights)))
  one <- lamina_attention_gradient(packed$q[i, , ], packed$k[j, , , drop = FALSE], packed$v[j, , , drop = FALSE],
                                   joined$output[i, , ])
  stopifnot(identical(slopes$q[i, , ], one$q), identical(slopes$k[j, , , drop = FALSE], one$k))
}
nothing <- lamina_attention(q, k, v, mask = matrix(FALSE, 1, 1), lse = TRUE)
stopifnot(all(nothing$output == 0), all(nothing$lse == -Inf))

# Gradients, against differences of the loss.
d <- array(rnorm(7 * 4), c(7, 4))
dl <- rnorm(7)
dw <- matrix(rnorm(63), 7)
for (map in c("softmax", "linear", "relu")) {
  soft <- map == "softmax"
  loss <- function(q, k, v, bias, scale = 0.4) {
    o <- lamina_attention(q, k, v, causal = "bottom_right", map = map, scale = scale, bias = bias, lse = soft, weights = TRUE)
    sum(o$output * d) + sum(o$weights * dw) + if (soft) sum(o$lse * dl) else 0
  }
  gradient <- lamina_attention_gradient(q, k, v, d, d_lse = if (soft) dl, d_weights = dw, causal = "bottom_right", map = map,
                                        scale = 0.4, bias = bias)
  stopifnot(identical(names(gradient), c("q", "k", "v", "bias", "scale")))
  at <- list(q = q, k = k, v = v, bias = bias)
  for (name in names(at)) for (i in c(1, 5, 11, 18)) {
    moved <- function(by) {
      at[[name]][i] <- at[[name]][i] + by
      do.call(loss, at)
    }
    stopifnot(abs((moved(1e-5) - moved(-1e-5)) / 2e-5 - gradient[[name]][i]) < 1e-7)
  }
  stopifnot(identical(dim(gradient$k), dim(k)), identical(dim(gradient$bias), dim(bias)))
  stopifnot(abs((loss(q, k, v, bias, 0.4 + 1e-5) - loss(q, k, v, bias, 0.4 - 1e-5)) / 2e-5 - gradient$scale) < 1e-7)
}
stopifnot(identical(names(lamina_attention_gradient(q, k, v, d)), c("q", "k", "v", "scale")))

# An array of doubles is read where it is: a call needs room for its output, not for another copy of its input.
wide <- matrix(rnorm(64 * 20000), 64)
untraced <- tryCatch({ tracemem(wide); FALSE }, error = function(e) TRUE)
if (untraced) cat("SKIPPED: this R has no tracemem\n") else {
  copies <- capture.output(invisible(lamina_attention(wide, wide, wide)))
  untracemem(wide)
  stopifnot(length(copies) == 0)
}

# What does not fit is said.
said <- function(expr, pattern) {
  e <- tryCatch({ expr; NULL }, error = conditionMessage)
  if (is.null(e) || !grepl(pattern, e)) stop("expected an error like \"", pattern, "\", got ", e)
}
said(lamina_attention(q, k[, 1:3], v), "k has width 3, must be that of q, 5")
said(lamina_attention(q, k, v[1:3, ]), "v has 3 positions")
said(lamina_attention(q, k, v, map = "sine"), "map is \"sine\", must be one of softmax, linear, relu")
said(lamina_attention(q, k, v, layout = "LDHH"), "layout is")
said(lamina_attention(q, k, v, bias = bias[, 1:2]), "bias has dimension 2 of 2, must be 1 or 9")
said(lamina_attention(q, k, v, scale = NaN), "lamina_attention_create: scale is nan")
said(lamina_attention(q, k, v, isa = "abacus"), "isa is abacus, must be one that this CPU runs")
said(lamina_attention("q", k, v), "q is of class character")
said(lamina_attention_gradient(q, k, v, d[1:2, ]), "d_output must have the dimensions of the output")
said(lamina_attention(packed$q, packed$k, packed$v, query_offsets = c(0, 5)), "query_offsets must have one number more")
said(lamina_attention(packed$q, packed$k, packed$v, key_offsets = c(0, 8)), "together with query_offsets")
said(lamina_attention(many, keys, values, query_offsets = rows, key_offsets = cols), "q has a batch of 2, must be 1")
said(lamina_attention(packed$q, packed$k, packed$v, query_offsets = c(1, 2, 2, 6), key_offsets = cols), "query_offsets\\[0\\] is 1")
said(lamina_attention(many, keys, values, query_lengths = c(7, 6), key_lengths = c(8, 8)), "query_lengths\\[0\\] is 7")
