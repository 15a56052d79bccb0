// Checkpoints: one safetensors file (8 bytes of header length, a JSON header, then the tensors) with everything that is needed
// to continue with the same bits. Written to a temporary file in the same folder, synced, and renamed over the old one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "train/trainer.hpp"

namespace lamina {
namespace {

using Json = nlohmann::json;
constexpr const char* format_name = "lamina-checkpoint-1";
constexpr uint64_t largest_header = 1 << 26, largest_file = uint64_t{1} << 36;

Json to_json(const std::map<std::string, OptionValue>& values) {
  Json json = Json::object();
  for (const auto& entry : values) {
    Json& to = json[entry.first];
    std::visit([&to](const auto& v) {
      if constexpr (std::is_same_v<std::decay_t<decltype(v)>, double>)
        to = std::isfinite(v) ? Json(v) : Json(v > 0 ? "inf" : "-inf");  // JSON has no infinity; options read the word
      else
        to = v;
    }, entry.second);
  }
  return json;
}

Options from_json(const Json& json) {
  Options options;
  for (const auto& [key, value] : json.items()) {
    if (value.is_number()) options.set(key, value.get<double>());
    else if (value.is_string()) options.set(key, value.get<std::string>());
    else options.set(key, value.get<std::vector<double>>());
  }
  return options;
}

// What the user set, without what follows from defaults: made again from these, Settings are the same.
std::map<std::string, OptionValue> given_values(const Settings& settings) {
  std::map<std::string, OptionValue> given;
  for (const auto& [key, value] : settings.values())
    if (settings.given(key.c_str())) given.emplace(key, value);
  return given;
}

[[noreturn]] void fail_file(const std::string& what, const std::string& path) {
  fail(LAMINA_E_FILE, "path is " + path + ", which could not be " + what + ": " + std::string(strerrordesc_np(errno)));
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool close_now() {
    const int fd = fd_;
    fd_ = -1;
    return close(fd) == 0;
  }

 private:
  int fd_;
};

void write_whole(int fd, const char* data, size_t bytes, const std::string& path) {
  while (bytes > 0) {
    const ssize_t written = write(fd, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_file("written", path);
    data += written, bytes -= static_cast<size_t>(written);
  }
}

// A symbolic link is followed; a device or a pipe is never replaced by a file.
void write_file(const std::string& path, const std::string& content) {
  struct stat there;
  if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode))
    fail(LAMINA_E_FILE, "path is " + path + ", which is no regular file, must be one or not exist");
  std::error_code unresolved;
  const std::filesystem::path real = std::filesystem::weakly_canonical(path, unresolved);
  const std::string place = unresolved ? path : real.string(), temporary = place + ".tmp" + std::to_string(getpid());
  const auto remove_and_fail = [&](const std::string& what) {
    const int error = errno;
    unlink(temporary.c_str());
    errno = error;
    fail_file(what, path);
  };
  {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (file.get() < 0) fail_file("created", path);
    try {
      write_whole(file.get(), content.data(), content.size(), path);
    } catch (...) {
      unlink(temporary.c_str());
      throw;
    }
    if (fsync(file.get()) != 0 || !file.close_now()) remove_and_fail("synced");
  }
  if (rename(temporary.c_str(), place.c_str()) != 0) remove_and_fail("put in place");
  const size_t slash = place.rfind('/');
  const std::string folder = slash == place.npos ? "." : slash == 0 ? "/" : place.substr(0, slash);
  Descriptor directory(folder, O_RDONLY | O_DIRECTORY);
  if (directory.get() >= 0) fsync(directory.get());
}

std::string read_file(const std::string& path) {
  Descriptor file(path, O_RDONLY | O_NONBLOCK);  // a pipe is refused below, not waited for
  struct stat info;
  if (file.get() < 0 || fstat(file.get(), &info) != 0) fail_file("opened", path);
  if (!S_ISREG(info.st_mode)) fail(LAMINA_E_FILE, "path is " + path + ", which is not a regular file");
  if (static_cast<uint64_t>(info.st_size) > largest_file) fail(LAMINA_E_FORMAT, "path is " + path + ", a file too large to be a checkpoint");
  std::string content(static_cast<size_t>(info.st_size), '\0');
  size_t at = 0;
  while (at < content.size()) {
    const ssize_t got = read(file.get(), content.data() + at, content.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path);
    if (got == 0) break;
    at += static_cast<size_t>(got);
  }
  content.resize(at);
  return content;
}

using Tensors = std::map<std::string, std::vector<double>>;

std::string pack(const Json& metadata, const Tensors& tensors) {
  Json header;
  header["__metadata__"] = {{"format", format_name}, {"run", metadata.dump()}};
  uint64_t offset = 0;
  for (const auto& [name, values] : tensors) {
    const uint64_t end = offset + values.size() * sizeof(double);
    header[name] = {{"dtype", "F64"}, {"shape", {values.size()}}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string content(8, '\0');
  for (int i = 0; i < 8; ++i) content[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i));
  content += text;
  for (const auto& [name, values] : tensors)
    content.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  return content;
}

Json unpack(const std::string& content, Tensors& tensors) {
  if (content.size() < 8) throw std::runtime_error("shorter than a header");
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) length |= static_cast<uint64_t>(static_cast<unsigned char>(content[i])) << (8 * i);
  if (length > largest_header || length > content.size() - 8) throw std::runtime_error("the header's length does not fit the file");
  const Json header = Json::parse(content.begin() + 8, content.begin() + 8 + static_cast<int64_t>(length));
  const char* data = content.data() + 8 + length;
  const uint64_t bytes = content.size() - 8 - length;
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t from = tensor.at("data_offsets").at(0).get<uint64_t>(), to = tensor.at("data_offsets").at(1).get<uint64_t>();
    if (tensor.at("dtype") != "F64" || from > to || to > bytes || (to - from) % sizeof(double) != 0)
      throw std::runtime_error("tensor " + name + " does not fit the file");
    std::vector<double> values((to - from) / sizeof(double));
    if (!values.empty()) std::memcpy(values.data(), data + from, to - from);
    tensors[name] = std::move(values);
  }
  if (header.at("__metadata__").at("format") != format_name) throw std::runtime_error("not a checkpoint of lamina");
  return Json::parse(header.at("__metadata__").at("run").get<std::string>());
}

// What a task that is not made again from its settings must have in common with the saved one's.
Json shape_in_json(const Task& task) {
  Json json{{"length", task.positions()}};
  if (const RecallLaw* law = task.recall())
    json.update({{"vocabulary", law->vocabulary}, {"noise", law->noise}, {"triggers", law->triggers}});
  return json;
}

bool has_shape(const Json& run, const Task& task) {
  const Json shape = shape_in_json(task);
  for (const auto& [key, value] : shape.items())
    if (run.at(key) != value) return false;
  return true;
}

int64_t integer_in(const Json& run, const char* key, int64_t least, int64_t most) {
  const Json& value = run.at(key);
  const bool whole = value.is_number_integer() && (value.get<double>() >= static_cast<double>(least)) &&
                     (value.get<double>() <= static_cast<double>(most));
  if (!whole) throw std::runtime_error("its " + std::string(key) + " is " + value.dump() + ", not an integer from " +
                                       std::to_string(least) + " to " + std::to_string(most));
  return value.get<int64_t>();
}

}  // namespace

void Trainer::save(const std::string& path) const {
  Json run;
  run["task"] = task_->name();
  run["task_settings"] = to_json(given_values(task_->settings()));
  run["model_settings"] = to_json(given_values(model_->settings()));
  run["options"] = to_json(options_.values());
  run.update(shape_in_json(*task_));
  run["step"] = step_, run["recorded"] = recorded_, run["seconds"] = seconds_;
  run["probes"] = Json::array();
  for (const ProbeRow* probe : probes_) run["probes"].push_back(probe->name);
  std::string content;
  try {
    content = pack(run, {{"parameters", model_->parameters()}, {"optimiser", optimiser_->state()}, {"trajectory", trajectory_->values()},
                         {"crossings", crossings_->state()}, {"stop_rules", stop_rules_.state()}});
  } catch (const Json::exception&) {
    fail(LAMINA_E_UNSUPPORTED, "an option holds text that is not UTF-8, which a checkpoint cannot hold: rename the file");
  }
  write_file(path, content);
}

std::unique_ptr<Trainer> Trainer::load(const std::string& path, std::shared_ptr<const Task> task) {
  const std::string content = read_file(path);
  try {
    Tensors tensors;
    const Json run = unpack(content, tensors);
    const std::string name = run.at("task");
    if (!task) {
      if (name == "arrays" || name == "callback")
        fail(LAMINA_E_ARGUMENT, "task is NULL, must be the host's own task, which is not in the file");
      const TaskRow& row = find_task(name);
      task = row.create(Settings(row.options, from_json(run.at("task_settings"))));
    } else if (task->name() != name || !has_shape(run, *task) || to_json(given_values(task->settings())) != run.at("task_settings")) {
      fail(LAMINA_E_ARGUMENT, "task is another " + std::string(task->name()) + ", must be the task of the saved run, a " + name +
                                  " of the same options and shape");
    }
    Options options = from_json(run.at("options"));
    const TaskRow* row = nullptr;
    for (const TaskRow& known : task_registry())
      if (known.name == name) row = &known;
    const std::unique_ptr<Model> model = make_model(
        *task, Settings(model_options(), from_json(run.at("model_settings")), row ? row->defaults : std::span<const OptionDefault>{}));
    model->set_parameters(tensors.at("parameters"));  // first: the objective reads them
    options.set("probes", std::string("none"));
    auto trainer = std::make_unique<Trainer>(std::move(task), model.get(), options);
    trainer->set_options(from_json(run.at("options")));
    for (const Json& probe : run.at("probes")) trainer->add_probe(probe.get<std::string>());
    trainer->build_columns();
    const auto& values = tensors.at("trajectory");
    const auto& state = tensors.at("optimiser");
    if (values.size() % trainer->trajectory_->columns().size() != 0 || state.size() != trainer->optimiser_->state().size())
      throw std::runtime_error("its tables have other sizes than the run needs");
    trainer->optimiser_->set_state(state);
    trainer->trajectory_->assign(values);
    trainer->step_ = integer_in(run, "step", 0, trainer->settings_.integer("steps"));
    trainer->recorded_ = integer_in(run, "recorded", -1, trainer->step_);
    if (tensors.contains("crossings")) {  // files of versions before these were written have neither
      const auto &crossings = tensors.at("crossings"), &rules = tensors.at("stop_rules");
      if (crossings.size() != trainer->crossings_->state().size() || rules.size() != trainer->stop_rules_.state().size())
        throw std::runtime_error("its crossings or stop rules are not those of its options");
      for (size_t i = 0; i < crossings.size(); i += Crossings::state_size)
        for (const double step : {crossings[i], crossings[i + Crossings::state_size - 1]})
          if (!(step >= -1 && step <= static_cast<double>(trainer->step_)))
            throw std::runtime_error("it has a crossing at a step that was not made");
      trainer->crossings_->set_state(crossings);
      trainer->stop_rules_.set_state(rules);
    }
    trainer->seconds_ = run.at("seconds");
    if (!(trainer->seconds_ >= 0)) throw std::runtime_error("its seconds are negative");
    const auto rows = trainer->trajectory_->rows();
    if (trainer->recorded_ != (rows > 0 ? static_cast<int64_t>(trainer->trajectory_->at(rows - 1, 0)) : -1))
      throw std::runtime_error("its last row is not of the step last recorded");
    return trainer;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(LAMINA_E_FORMAT, "path is " + path + ", which is not a checkpoint: " + error.what());
  }
}

}  // namespace lamina
