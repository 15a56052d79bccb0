// Counting characters and words: the first pass finds the most frequent units, the second counts bigrams of tokens.
#include "task/text_statistics.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string_view>

#include "base/error.hpp"
#include "task/utf8_file.hpp"

namespace lamina {
namespace {

constexpr size_t longest_word = 64;
constexpr size_t code_points = 0x110000;
constexpr const char* other_text = "<other>";

// White space of Unicode (property White_Space).
bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string encode(char32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | c >> 18), tail(12), tail(6), tail(0)};
}

// Words with a number each: the text in blocks, the entries in a deque, so that growing copies neither; 24 bytes an entry, at
// most 18 of slots while they grow, and the text.
class WordTable {
 public:
  struct Entry {
    int64_t value;
    const char* text;
    uint32_t hash;
    uint32_t length;
    std::string_view word() const { return {text, length}; }
  };
  WordTable() : slots_(1024, none) {}

  Entry* find(std::string_view word) {
    const uint32_t index = slots_[place(word, hash(word))];
    return index == none ? nullptr : &entries_[index];
  }
  // The entry of `word`, new with value 0 if there was none.
  Entry& at(std::string_view word) {
    const uint32_t code = hash(word);
    size_t slot = place(word, code);
    if (slots_[slot] != none) return entries_[slots_[slot]];
    if ((entries_.size() + 1) * 10 > slots_.size() * 7) {
      grow();
      slot = place(word, code);
    }
    if (entries_.size() >= none) fail(LAMINA_E_UNSUPPORTED, "the file has more than 2^32 distinct words");
    slots_[slot] = static_cast<uint32_t>(entries_.size());
    return entries_.emplace_back(Entry{0, store(word), code, static_cast<uint32_t>(word.size())});
  }
  const std::deque<Entry>& entries() const { return entries_; }

 private:
  static constexpr uint32_t none = 0xffffffff;
  static constexpr size_t block_bytes = size_t{1} << 16;

  static uint32_t hash(std::string_view word) {  // FNV-1a, folded
    uint64_t h = 0xcbf29ce484222325;
    for (const char c : word) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return static_cast<uint32_t>(h ^ h >> 32);
  }
  size_t place(std::string_view word, uint32_t code) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = code & mask;
    for (; slots_[slot] != none; slot = (slot + 1) & mask) {
      const Entry& entry = entries_[slots_[slot]];
      if (entry.hash == code && entry.word() == word) break;
    }
    return slot;
  }
  void grow() {
    std::vector<uint32_t> slots(2 * slots_.size(), none);
    const size_t mask = slots.size() - 1;
    uint32_t index = 0;
    for (const Entry& entry : entries_) {
      size_t slot = entry.hash & mask;
      while (slots[slot] != none) slot = (slot + 1) & mask;
      slots[slot] = index++;
    }
    slots_.swap(slots);
  }
  const char* store(std::string_view word) {
    if (left_ < word.size()) {
      blocks_.push_back(std::make_unique<char[]>(block_bytes));
      left_ = block_bytes;
    }
    char* target = blocks_.back().get() + (block_bytes - left_);
    std::memcpy(target, word.data(), word.size());
    left_ -= word.size();
    return target;
  }

  std::vector<uint32_t> slots_;
  std::deque<Entry> entries_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t left_ = 0;
};

// body(code point) for every character of the file, from its start.
template <class Body>
void for_each_character(Utf8File& file, Body body) {
  file.rewind();
  for (std::string_view block = file.next_block(); !block.empty(); block = file.next_block()) {
    for (const char* p = block.data(); p != block.data() + block.size();) body(next_code_point(p));
  }
}

// body(word) for every word of the file, from its start; of a word longer than longest_word only its first bytes are shown,
// more than longest_word of them.
template <class Body>
void for_each_word(Utf8File& file, Body body) {
  file.rewind();
  std::string begun;  // of a word that the end of a block cut
  for (std::string_view block = file.next_block(); !block.empty(); block = file.next_block()) {
    const char *p = block.data(), *end = p + block.size(), *start = p;
    const auto carry = [&](const char* stop) {
      begun.append(start,
                   std::min(static_cast<size_t>(stop - start), longest_word + 1 - std::min(begun.size(), longest_word + 1)));
    };
    while (p != end) {
      const char* here = p;
      if (!is_space(next_code_point(p))) continue;
      if (!begun.empty()) {
        carry(here);
        body(std::string_view(begun));
        begun.clear();
      } else if (here != start) {
        body(std::string_view(start, static_cast<size_t>(here - start)));
      }
      start = p;
    }
    carry(end);
  }
  if (!begun.empty()) body(std::string_view(begun));
}

struct Unit {
  int64_t count;
  std::string_view text;
};
bool more_frequent(const Unit& a, const Unit& b) {
  return a.count != b.count ? a.count > b.count : a.text < b.text;
}

// Keeps the most frequent of the units it is shown, in memory for so many.
class Ranking {
 public:
  explicit Ranking(int64_t size) : size_(static_cast<size_t>(size)) {}
  void offer(const Unit& unit) {
    if (heap_.size() == size_) {
      if (size_ == 0 || !more_frequent(unit, heap_.front())) return;
      std::pop_heap(heap_.begin(), heap_.end(), more_frequent);
      heap_.pop_back();
    }
    heap_.push_back(unit);
    std::push_heap(heap_.begin(), heap_.end(), more_frequent);
  }
  std::vector<Unit> sorted() && {
    std::sort_heap(heap_.begin(), heap_.end(), more_frequent);
    return std::move(heap_);
  }

 private:
  size_t size_;
  std::vector<Unit> heap_;  // the least frequent in front
};

// Fills text, unigram, total, distinct from the units kept; what is left of `total` goes to <other>.
void set_units(TextStatistics& out, const std::vector<Unit>& kept, int64_t total) {
  int64_t rest = total;
  for (const Unit& unit : kept) {
    out.text.emplace_back(unit.text);
    out.unigram.push_back(unit.count);
    rest -= unit.count;
  }
  out.total = total;
  out.has_other = rest > 0;
  if (out.has_other) {
    out.text.emplace_back(other_text);
    out.unigram.push_back(rest);
  }
}

void count_characters(Utf8File& file, int64_t vocabulary, TextStatistics& out) {
  std::vector<int64_t> counts(code_points, 0);
  int64_t total = 0;
  for_each_character(file, [&](char32_t c) { ++counts[c], ++total; });
  out.distinct = std::count_if(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
  // In the order of code points, which is the byte order of UTF-8, so a stable sort breaks ties as words do.
  std::vector<char32_t> kept;
  for (size_t c = 0; c < code_points; ++c)
    if (counts[c] > 0) kept.push_back(static_cast<char32_t>(c));
  std::stable_sort(kept.begin(), kept.end(), [&](char32_t a, char32_t b) { return counts[a] > counts[b]; });
  if (out.distinct > vocabulary) kept.resize(static_cast<size_t>(vocabulary - 1));
  std::vector<std::string> texts;
  std::vector<Unit> units;
  texts.reserve(kept.size());
  for (const char32_t c : kept) units.push_back({counts[c], texts.emplace_back(encode(c))});
  set_units(out, units, total);
}

void count_words(Utf8File& file, int64_t vocabulary, TextStatistics& out) {
  WordTable table;
  int64_t total = 0, too_long = 0;
  for_each_word(file, [&](std::string_view word) {
    ++total;
    if (word.size() > longest_word) {
      ++too_long;
    } else {
      ++table.at(word).value;
    }
  });
  out.distinct = std::ssize(table.entries());
  Ranking ranking(out.distinct + (too_long > 0 ? 1 : 0) > vocabulary ? vocabulary - 1 : out.distinct);
  for (const WordTable::Entry& entry : table.entries()) ranking.offer({entry.value, entry.word()});
  set_units(out, std::move(ranking).sorted(), total);
}

// The second pass: tokens in order.
class BigramCounter {
 public:
  explicit BigramCounter(TextStatistics& out) : out_(out), seen_(out.text.size(), 0) {
    out.bigram.assign(out.text.size() * out.text.size(), 0);
  }
  int64_t other() const { return out_.has_other ? out_.vocabulary() - 1 : -1; }
  void add(int64_t token) {
    if (token < 0) {
      unknown_ = true;
      return;
    }
    ++seen_[static_cast<size_t>(token)];
    if (previous_ >= 0) ++out_.bigram[static_cast<size_t>(previous_ * out_.vocabulary() + token)];
    previous_ = token;
  }
  bool agrees() const { return !unknown_ && seen_ == out_.unigram; }

 private:
  TextStatistics& out_;
  std::vector<int64_t> seen_;
  int64_t previous_ = -1;
  bool unknown_ = false;
};

}  // namespace

TextStatistics read_text(const std::string& path, TextUnit unit, int64_t vocabulary) {
  Utf8File file(path);
  TextStatistics out;
  if (unit == TextUnit::characters) {
    count_characters(file, vocabulary, out);
  } else {
    count_words(file, vocabulary, out);
  }
  if (out.total == 0)
    fail(LAMINA_E_FORMAT,
         "file \"" + path + "\" " + (unit == TextUnit::words ? "holds no words" : "is empty") + ", must be UTF-8 text");
  BigramCounter counter(out);
  const int64_t kept = out.vocabulary() - (out.has_other ? 1 : 0);
  if (unit == TextUnit::characters) {
    std::vector<int32_t> token_of(code_points, static_cast<int32_t>(counter.other()));
    for (int64_t token = 0; token < kept; ++token) {
      const char* p = out.text[static_cast<size_t>(token)].data();
      token_of[next_code_point(p)] = static_cast<int32_t>(token);
    }
    for_each_character(file, [&](char32_t c) { counter.add(token_of[c]); });
  } else {
    WordTable table;
    for (int64_t token = 0; token < kept; ++token) table.at(out.text[static_cast<size_t>(token)]).value = token;
    for_each_word(file, [&](std::string_view word) {
      const WordTable::Entry* entry = word.size() > longest_word ? nullptr : table.find(word);
      counter.add(entry ? entry->value : counter.other());
    });
  }
  if (!counter.agrees()) fail(LAMINA_E_FILE, "file \"" + path + "\" changed while it was read");
  return out;
}

int64_t TextStatistics::hash() const {
  uint64_t h = static_cast<uint64_t>(vocabulary());
  const auto mix = [&h](uint64_t x) {
    h = (h ^ x) * 0x9e3779b97f4a7c15;
    h ^= h >> 29;
  };
  for (const std::string& unit : text) {
    mix(unit.size());
    for (const char c : unit) mix(static_cast<unsigned char>(c));
  }
  mix(has_other);
  for (const int64_t n : unigram) mix(static_cast<uint64_t>(n));
  for (const int64_t n : bigram) mix(static_cast<uint64_t>(n));
  mix(0);
  return static_cast<int64_t>(h >> 11) + 1;
}

}  // namespace lamina
