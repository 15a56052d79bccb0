// Counts of characters and words against a naive counter, on the licence texts of the system and on text of every length of
// code point; code points and words cut by the reader's blocks; files that are no text.
#include "task/text_statistics.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "task/utf8_file.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

// Code points of valid UTF-8 by their first bytes.
std::vector<std::string> naive_characters(const std::string& bytes) {
  std::vector<std::string> units;
  for (const char c : bytes) {
    if ((static_cast<unsigned char>(c) & 0xc0) == 0x80) {
      units.back() += c;
    } else {
      units.emplace_back(1, c);
    }
  }
  return units;
}

// Words between the white space of `spaces`, given as code points in UTF-8.
std::vector<std::string> naive_words(const std::string& bytes) {
  static const std::set<std::string> spaces = {" ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\u0085",
                                               "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004",
                                               "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028",
                                               "\u2029", "\u202f", "\u205f", "\u3000"};
  std::vector<std::string> units;
  std::string word;
  for (const std::string& c : naive_characters(bytes + "\n")) {
    if (!spaces.count(c)) {
      word += c;
    } else if (!word.empty()) {
      units.push_back(std::move(word));
      word.clear();
    }
  }
  return units;
}

// The same statistics from the list of units, by sorting and searching.
void expect_statistics(const TextStatistics& found, const std::vector<std::string>& units, int64_t vocabulary, size_t longest) {
  std::map<std::string, int64_t> counts;
  int64_t too_long = 0;
  for (const std::string& unit : units) unit.size() > longest ? ++too_long : ++counts[unit];
  std::vector<std::pair<int64_t, std::string>> ranked;
  for (const auto& [unit, n] : counts) ranked.emplace_back(-n, unit);
  std::sort(ranked.begin(), ranked.end());
  const bool other = std::ssize(ranked) + (too_long > 0) > vocabulary || too_long > 0;
  if (std::ssize(ranked) + (too_long > 0) > vocabulary) ranked.resize(static_cast<size_t>(vocabulary - 1));
  ASSERT_EQ(found.has_other, other);
  ASSERT_EQ(found.vocabulary(), std::ssize(ranked) + other);
  EXPECT_EQ(found.total, std::ssize(units));
  EXPECT_EQ(found.distinct, std::ssize(counts));
  std::map<std::string, size_t> token;
  for (size_t i = 0; i < ranked.size(); ++i) {
    EXPECT_EQ(found.text[i], ranked[i].second);
    EXPECT_EQ(found.unigram[i], -ranked[i].first);
    token[ranked[i].second] = i;
  }
  if (other) {
    EXPECT_EQ(found.text.back(), "<other>");
  }
  const auto token_of = [&](const std::string& unit) {
    const auto place = token.find(unit);
    return place == token.end() || unit.size() > longest ? ranked.size() : place->second;
  };
  const auto v = static_cast<size_t>(found.vocabulary());
  std::vector<int64_t> unigram(v, 0), bigram(v * v, 0);
  for (size_t i = 0; i < units.size(); ++i) {
    ++unigram[token_of(units[i])];
    if (i > 0) ++bigram[token_of(units[i - 1]) * v + token_of(units[i])];
  }
  EXPECT_EQ(found.unigram, unigram);
  EXPECT_EQ(found.bigram, bigram);
}

void expect_counts(const std::string& path, const std::string& bytes) {
  for (const int64_t vocabulary : {2, 10, 64, 3000}) {
    expect_statistics(read_text(path, TextUnit::characters, vocabulary), naive_characters(bytes), vocabulary, 64);
    expect_statistics(read_text(path, TextUnit::words, vocabulary), naive_words(bytes), vocabulary, 64);
  }
}

std::string bytes_of(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

TEST(TextStatistics, LicenceTexts) {
  int files = 0;
  for (const char* name : {"GPL-3", "GPL-2", "Apache-2.0", "BSD", "LGPL-2.1"}) {
    const std::string path = std::string("/usr/share/common-licenses/") + name;
    if (!std::filesystem::is_regular_file(path)) continue;
    ++files;
    expect_counts(path, bytes_of(path));
  }
  if (files == 0) GTEST_SKIP() << "SKIPPED: no licence texts in /usr/share/common-licenses";
}

const char* const many_scripts =
    "\u0395\u03bd \u03b1\u03c1\u03c7\u1fc7 \u03b7\u03bd \u03bf \u03bb\u03cc\u03b3\u03bf\u03c2 \u4f60\u597d\u3000\u4e16\u754c "
    "\u00fcber na\u00efve "
    "\U0001f600\U0001f601 \U0001d11e\u2003\U0010ffff \u0085\u00a0x\u2028y\u2029z \ud7ff \ue000 \u200b \ufeff end";

TEST(TextStatistics, CodePointsOfEveryLengthAndEverySpace) {
  const TemporaryFile file(many_scripts);
  expect_counts(file.path(), many_scripts);
  const TextStatistics words = read_text(file.path(), TextUnit::words, 100);
  EXPECT_NE(std::find(words.text.begin(), words.text.end(), "\u4e16\u754c"), words.text.end());
  EXPECT_EQ(words.distinct, words.vocabulary());
  EXPECT_FALSE(words.has_other);
}

TEST(TextStatistics, BlocksCutCodePointsAndWordsAnywhere) {
  // Longer than three blocks of the reader, a block boundary at each place of a code point and of a word.
  std::string text;
  for (int i = 0; text.size() < 600000; ++i)
    text += std::string(many_scripts) + std::to_string(i * i % 977) + (i % 3 ? " " : "\n");
  for (const size_t shift : {0, 1, 2, 3, 7}) {
    const std::string bytes = std::string(shift, 'a') + text;
    const TemporaryFile file(bytes);
    expect_statistics(read_text(file.path(), TextUnit::characters, 40), naive_characters(bytes), 40, 64);
    expect_statistics(read_text(file.path(), TextUnit::words, 300), naive_words(bytes), 300, 64);
  }
  // A file that ends exactly with a block, one before, one behind.
  for (const size_t size : {(1u << 18) - 1, 1u << 18, (1u << 18) + 1, 1u << 19}) {
    const std::string bytes = text.substr(0, 100) + std::string(size - 100, 'b');
    const TemporaryFile file(std::string(size, 'b'));
    const TextStatistics characters = read_text(file.path(), TextUnit::characters, 4);
    EXPECT_EQ(characters.total, static_cast<int64_t>(size));
    EXPECT_EQ(characters.bigram, std::vector<int64_t>{static_cast<int64_t>(size) - 1});
  }
}

TEST(TextStatistics, LongWordsShareOther) {
  const std::string longest(64, 'x'), too_long(65, 'x'), endless(300000, 'y');
  const std::string bytes = "a " + longest + " " + too_long + " a " + endless + " " + longest + "z b a";
  const TemporaryFile file(bytes);
  expect_counts(file.path(), bytes);
  const TextStatistics words = read_text(file.path(), TextUnit::words, 64);
  EXPECT_EQ(words.distinct, 3);
  EXPECT_EQ(words.text, (std::vector<std::string>{"a", "b", longest, "<other>"}));
  EXPECT_EQ(words.unigram, (std::vector<int64_t>{3, 1, 1, 3}));
}

TEST(TextStatistics, AByteOrderMarkIsLeftOutAtTheStartOnly) {
  const TemporaryFile with("\xef\xbb\xbfto be\xef\xbb\xbf"), without("to be\xef\xbb\xbf"), alone("\xef\xbb\xbf");
  EXPECT_EQ(read_text(with.path(), TextUnit::characters, 64).hash(),
            read_text(without.path(), TextUnit::characters, 64).hash());
  EXPECT_EQ(read_text(with.path(), TextUnit::characters, 64).total, 6);
  expect_error(error_of([&] { read_text(alone.path(), TextUnit::characters, 64); }), LAMINA_E_FORMAT, {"is empty"});
}

TEST(TextStatistics, TheHashSeesTextAndOrder) {
  const TemporaryFile a("abcabc abc"), b("abcabc acb"), c("abdabd abd");
  std::set<int64_t> hashes;
  for (const TemporaryFile* file : {&a, &b, &c}) {
    hashes.insert(read_text(file->path(), TextUnit::characters, 64).hash());
    hashes.insert(read_text(file->path(), TextUnit::words, 64).hash());
  }
  EXPECT_EQ(hashes.size(), 6u);
  EXPECT_GE(*hashes.begin(), 1);
  EXPECT_LE(*hashes.rbegin(), int64_t{1} << 53);
}

std::string error_for(const std::string& bytes, TextUnit unit = TextUnit::characters) {
  const TemporaryFile file(bytes);
  const std::string error = error_of([&] { read_text(file.path(), unit, 64); });
  if (!error.empty()) {
    EXPECT_NE(error.find(file.path()), error.npos);
  }
  return error;
}

TEST(TextErrors, IllFormedUtf8IsNamedWithItsOffset) {
  const std::string good = "plain \u03b1";  // 8 bytes
  for (const std::string bad : {"\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
                                "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                "\xff", "\xfe", "\xc3(", "\xe2\x82(", "\xf0\x9f\x98("})
    for (const std::string& tail : {std::string(), std::string("more plain text")}) {
      expect_error(error_for(good + bad + tail), LAMINA_E_FORMAT, {"byte 8 begins no well-formed code point", "UTF-8"});
    }
  // Cut at the end of the file.
  for (const std::string cut : {"\xc3", "\xe2\x82", "\xe2", "\xf0\x9f\x98", "\xf0"})
    expect_error(error_for(good + cut), LAMINA_E_FORMAT, {"byte 8 begins no well-formed code point"});
  // Far behind the first block, and across a boundary of blocks.
  expect_error(error_for(std::string(600001, 'a') + "\xff"), LAMINA_E_FORMAT, {"byte 600001 "});
  expect_error(error_for(std::string((1 << 18) - 1, 'a') + "\xe2(("), LAMINA_E_FORMAT, {"byte 262143 "});
  // The neighbours of all of these are fine.
  for (const std::string fine : {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                                 "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_EQ(error_for(good + fine), "");
}

TEST(TextErrors, BinaryEmptyAndWordlessFiles) {
  for (size_t place = 0; place < 20; ++place) {
    std::string bytes(20, 'a');
    bytes[place] = 0;
    expect_error(error_for(bytes), LAMINA_E_FORMAT, {("byte " + std::to_string(place) + " is NUL").c_str(), "binary"});
  }
  expect_error(error_for(""), LAMINA_E_FORMAT, {"is empty"});
  expect_error(error_for("", TextUnit::words), LAMINA_E_FORMAT, {"holds no words"});
  expect_error(error_for(" \n\t \u3000", TextUnit::words), LAMINA_E_FORMAT, {"holds no words"});
}

TEST(TextErrors, MissingDirectoryAndSpecialFiles) {
  const auto error = [](const std::string& path) { return error_of([&] { read_text(path, TextUnit::words, 64); }); };
  expect_error(error("no/such/file.txt"), LAMINA_E_FILE, {"no/such/file.txt", "does not exist"});
  expect_error(error("."), LAMINA_E_FILE, {"is a directory"});
  expect_error(error("/dev/null"), LAMINA_E_FILE, {"no regular file"});
  expect_error(error(std::string("a\0b", 3)), LAMINA_E_FILE, {"NUL"});
}

TEST(TextErrors, AFileWithoutPermission) {
  const TemporaryFile file("secret");
  ASSERT_EQ(chmod(file.path().c_str(), 0), 0);
  if (access(file.path().c_str(), R_OK) == 0) GTEST_SKIP() << "SKIPPED: this user (root?) may read every file";
  expect_error(error_of([&] { read_text(file.path(), TextUnit::words, 64); }), LAMINA_E_FILE, {"cannot be opened"});
}

TEST(Utf8File, TheSecondPassReadsWhatStandsThereThen) {
  const TemporaryFile file("abc");
  Utf8File reader(file.path());
  EXPECT_EQ(reader.next_block(), "abc");
  EXPECT_EQ(reader.next_block(), "");
  std::ofstream(file.path(), std::ios::app) << "d";
  reader.rewind();
  EXPECT_EQ(reader.next_block(), "abcd");
}

}  // namespace
}  // namespace lamina
