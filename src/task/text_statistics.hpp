// Exact unigram and bigram counts of a UTF-8 text file, in two passes and bounded memory: at most 16 MiB, 8 V^2 bytes for the
// counts, and 128 bytes for each distinct word.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lamina {

// characters: code points, white space and line ends included. words: what stands between white space, punctuation and case
// kept.
enum class TextUnit { characters, words };

// Tokens are 0..V-1 in order of falling frequency, ties in byte order; where more distinct units exist than the vocabulary
// takes, or a word is longer than 64 bytes, all that are left share the last token, <other>.
struct TextStatistics {
  std::vector<std::string> text;  // [V]
  bool has_other = false;
  int64_t total = 0;             // units in the file
  int64_t distinct = 0;          // distinct units, words longer than 64 bytes not counted
  std::vector<int64_t> unigram;  // [V]
  std::vector<int64_t> bigram;   // [V, V]: bigram[a * V + b] = how often b follows a

  int64_t vocabulary() const { return static_cast<int64_t>(text.size()); }
  // A number in 1..2^53 that other counts or texts would, but for a chance of 2^-53, not give.
  int64_t hash() const;
};

// At most `vocabulary` >= 2 tokens, <other> included. Throws LAMINA_E_FILE, LAMINA_E_FORMAT.
TextStatistics read_text(const std::string& path, TextUnit unit, int64_t vocabulary);

}  // namespace lamina
