# The pages keep their word: their R lines run as they stand and end with a run that has learnt. The package's own page is beside
# these tests, the front page above LAMINA_GOLDEN.
library(lamina)
pdf(NULL)

golden <- Sys.getenv("LAMINA_GOLDEN")
if (!nzchar(golden) && nzchar(Sys.getenv("LAMINA_BUILD"))) golden <- file.path(Sys.getenv("LAMINA_BUILD"), "..", "tests", "golden")
source_folder <- if (nzchar(golden)) file.path(golden, "..", "..") else tempfile()
pages <- file.path(source_folder, c("README.md", "bindings/r/README.md"))
if (!all(file.exists(pages))) {
  cat("SKIPPED: the pages are not beside this package; LAMINA_GOLDEN, a folder of the tree, says where it is\n")
  pages <- NULL
}
for (page in pages) {
  lines <- readLines(page)
  first <- which(lines == "```r") + 1
  stopifnot(length(first) == 1)
  block <- lines[first:(first + which(lines[first:length(lines)] == "```")[1] - 2)]
  pasted <- new.env()
  eval(parse(text = block), pasted)
  excess <- pasted$run$trajectory$excess
  stopifnot(length(excess) == 401, excess[1] > 1, excess[401] < 1e-2)
}
