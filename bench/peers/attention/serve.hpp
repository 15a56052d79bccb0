// The protocol by which one driver times many programs in turn: lines on standard input, one line of answer each.
//   prepare SLOT KEY=VALUE ...   builds one call from the arrays in folder/{q,k,v,d_o}      -> ok SECONDS NOTE | failed: WHY
//   burst SLOT SECONDS           repeats it for so long, at least once                      -> seconds a call
//   output SLOT FOLDER           writes o (d_q d_k d_v) of the last call                    -> ok
//   release SLOT                 forgets it                                                 -> ok
//   memory SLOT                  peak of the resident set in bytes since the process began  -> bytes
// Time is the process's own where it has one thread, so that a busy machine disturbs little, else the wall's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Request {
  std::map<std::string, std::string> field;
  const std::string& word(const char* key) const { return field.at(key); }
  int64_t number(const char* key) const { return std::stoll(field.at(key)); }
  int64_t count() const { return number("batch") * number("heads") * number("length") * number("width"); }
  bool f64() const { return word("element") == "f64"; }
  size_t bytes() const { return static_cast<size_t>(count()) * (f64() ? 8 : 4); }
  bool causal() const { return number("causal"); }
  bool backward() const { return word("direction") == "both"; }
};

// 64-byte aligned memory, every page touched.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes), memory_(std::aligned_alloc(64, (bytes + 127) / 64 * 64), std::free) {
    std::fill(data<char>(), data<char>() + bytes, char{0});
  }
  template <class T> T* data() const { return static_cast<T*>(memory_.get()); }
  size_t bytes() const { return bytes_; }
  void read(const std::string& path) {
    if (!std::ifstream(path, std::ios::binary).read(data<char>(), static_cast<std::streamsize>(bytes_)))
      throw std::runtime_error("cannot read " + path);
  }
  void write(const std::string& path) const {
    std::ofstream(path, std::ios::binary).write(data<char>(), static_cast<std::streamsize>(bytes_));
  }

 private:
  size_t bytes_;
  std::unique_ptr<void, void (*)(void*)> memory_;
};

struct Call {
  virtual ~Call() = default;
  virtual void run() = 0;
  virtual void write(const std::string& folder) = 0;
  virtual std::string note() const { return ""; }
};

inline double seconds_now(bool own) {
  timespec now;
  clock_gettime(own ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Seconds a call over at least `least` seconds; the clock is read after 1, 1, 2, 4, ... calls, as long as they are short.
inline double burst(Call& call, double least, bool own) {
  int64_t done = 0, step = 1;
  const double start = seconds_now(own);
  for (;;) {
    for (int64_t k = 0; k < step; ++k) call.run();
    done += step;
    const double elapsed = seconds_now(own) - start;
    if (elapsed >= least) return elapsed / static_cast<double>(done);
    const double left = (least - elapsed) * static_cast<double>(done) / elapsed;
    step = std::max<int64_t>(1, std::min(done, static_cast<int64_t>(left) + 1));
  }
}

inline size_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  return 0;
}

using Maker = std::function<std::unique_ptr<Call>(const Request&)>;
using Other = std::function<std::string(const std::string& verb, const std::string& slot, std::istringstream& rest)>;

inline int serve(const Maker& make, const Other& other = nullptr) {
  struct Prepared {
    std::unique_ptr<Call> call;
    bool own;
  };
  std::map<std::string, Prepared> calls;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, slot, word;
    words >> verb >> slot;
    std::ostringstream answer;
    answer.precision(17);
    try {
      if (verb == "prepare") {
        Request request;
        while (words >> word) request.field[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
        Prepared made{make(request), request.number("threads") == 1};
        const double start = seconds_now(made.own);
        made.call->run();
        answer << "ok " << seconds_now(made.own) - start << ' ' << made.call->note();
        calls.insert_or_assign(slot, std::move(made));
      } else if (verb == "release") {
        calls.erase(slot);
        answer << "ok";
      } else if (verb == "memory") {
        answer << peak_resident_bytes();
      } else if (verb == "burst") {
        double least = 0;
        words >> least;
        const Prepared& prepared = calls.at(slot);
        answer << burst(*prepared.call, least, prepared.own);
      } else if (verb == "output") {
        words >> word;
        calls.at(slot).call->write(word);
        answer << "ok";
      } else if (other) {
        answer << other(verb, slot, words);
      } else {
        throw std::runtime_error("unknown verb " + verb);
      }
    } catch (const std::exception& error) {
      std::string why = error.what();
      std::replace(why.begin(), why.end(), '\n', ' ');
      answer.str("failed: " + why);
    }
    std::cout << answer.str() << std::endl;
  }
  return 0;
}
