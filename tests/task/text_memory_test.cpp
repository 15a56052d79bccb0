// Peak memory of text_recall on a generated file of 100 MB: at most 64 MiB + 16 V^2 bytes + 128 bytes a distinct word. The peak
// is that of a child process, which makes the task and draws prompts: this program again with the arguments "child FILE UNIT
// V".
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "base/random.hpp"
#include "task/text_statistics.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

// VmHWM of this process in bytes, -1 where the system does not tell.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  return -1;
}

int child(const char* path, const char* unit, double vocabulary) {
  const std::string error = error_of([&] {
    const auto task = make_task("text_recall", {{"file", path}, {"unit", unit}, {"vocabulary", vocabulary}});
    Prompts prompts;
    task->sample(Split::train, 1, 0, 100, prompts);
    std::printf("%lld %lld\n", static_cast<long long>(peak_bytes()), static_cast<long long>(task->law().vocabulary));
  });
  if (!error.empty()) std::printf("%s\n", error.c_str());
  return error.empty() ? 0 : 1;
}

constexpr int64_t megabytes = 100;

// Half of the words from 200 frequent ones, the rest from 3 million rare ones of 7 to 10 characters, some Greek.
int64_t write_file(const std::string& path) {
  constexpr int64_t rare = 3000000;
  std::vector<bool> used(rare);
  std::ofstream file(path, std::ios::binary);
  std::string block;
  Random random(1, Purpose::train, 0);
  int64_t written = 0, distinct = 0;
  while (written < megabytes * 1000000) {
    block.clear();
    while (block.size() < 1 << 20) {
      if (random.bernoulli(0.5)) {
        block += "w" + std::to_string(random.below(200)) + ' ';
      } else {
        const int64_t word = random.below(rare);
        distinct += !used[static_cast<size_t>(word)];
        used[static_cast<size_t>(word)] = true;
        block += (word % 2 ? std::string("\u03bb") : std::string(2, static_cast<char>('a' + word % 26))) +
                 std::to_string(10000000 + word) + (word % 7 ? ' ' : '\n');
      }
    }
    file << block;
    written += static_cast<int64_t>(block.size());
  }
  return distinct + 200;
}

TEST(TextMemory, PeakOnAHundredMegabytes) {
  if (peak_bytes() < 0) GTEST_SKIP() << "SKIPPED: no /proc/self/status to read the peak from";
  const TemporaryFile file("");
  const int64_t distinct = write_file(file.path());
  char self[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  for (const auto& [unit, vocabulary] : {std::pair<const char*, int64_t>{"characters", 64}, {"words", 64}, {"words", 4096}}) {
    const std::string command =
        "'" + std::string(self) + "' child '" + file.path() + "' " + unit + " " + std::to_string(vocabulary);
    const auto start = std::chrono::steady_clock::now();
    std::FILE* pipe = popen(command.c_str(), "r");
    ASSERT_TRUE(pipe);
    char line[4096] = {};
    const bool read = std::fgets(line, sizeof line, pipe) != nullptr;
    ASSERT_EQ(pclose(pipe), 0) << line;
    ASSERT_TRUE(read);
    long long peak = 0, tokens = 0;
    ASSERT_EQ(std::sscanf(line, "%lld %lld", &peak, &tokens), 2) << line;
    const bool words = std::strcmp(unit, "words") == 0;
    const int64_t allowed = (int64_t{64} << 20) + 16 * tokens * tokens + (words ? 128 * distinct : 0);
    EXPECT_LE(peak, allowed) << unit << " " << vocabulary;
    if (words) {
      EXPECT_EQ(tokens, vocabulary);
    }
    std::printf("%s, V = %lld: peak %.1f MiB of %.1f allowed, %.1f s\n", unit, tokens, static_cast<double>(peak) / (1 << 20),
                static_cast<double>(allowed) / (1 << 20),
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

}  // namespace
}  // namespace lamina

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "child") == 0) return lamina::child(argv[2], argv[3], std::atof(argv[4]));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
