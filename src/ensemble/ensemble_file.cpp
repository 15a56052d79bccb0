// The file of an ensemble: what it is made of, the members that have ended, and those under way or out of time as checkpoints have them.
// The others begin from their seeds, so a resumed ensemble has the bits of an uninterrupted one.
#include <stdexcept>

#include "ensemble/ensemble.hpp"
#include "train/tensor_file.hpp"

namespace lamina {
namespace {

constexpr const char* format = "lamina-ensemble-1";

Json columns_in_json(const std::vector<Column>& columns) {
  Json json = Json::array();
  for (const Column& column : columns) json.push_back({column.name, column.definition});
  return json;
}

std::vector<Column> columns_in(const Json& json) {
  std::vector<Column> columns;
  for (const Json& column : json) columns.push_back({column.at(0), column.at(1)});
  if (columns.empty()) throw std::runtime_error("a trajectory has no columns");
  return columns;
}

// values [crossings, 4]: value, step, before, after; times [crossings], or null in files of versions that found none between steps.
std::vector<Crossing> crossings_in(const Json& signals, const std::vector<double>& values, const std::vector<double>* times) {
  if (values.size() != 4 * signals.size() || (times && times->size() != signals.size()))
    throw std::runtime_error("crossings do not fit their names");
  std::vector<Crossing> crossings;
  for (size_t i = 0; i < signals.size(); ++i) {
    const double* const v = &values[4 * i];
    const double step = v[1];
    if (!(step >= -1 && step <= 0x1p53)) throw std::runtime_error("a crossing has no step");
    Crossing crossing{.signal = signals.at(i), .value = v[0], .step = static_cast<int64_t>(step), .before = v[2], .after = v[3]};
    if (times) crossing.time = (*times)[i];
    else if (step >= 0) crossing.time = step;
    crossings.push_back(std::move(crossing));
  }
  return crossings;
}

// "begun": [{"member", "run"}, ...], with tensors begun_<member>_<name>.
void add_begun(int64_t member, const Saved& saved, Json& run, Tensors& tensors) {
  run["begun"].push_back({{"member", member}, {"run", saved.content}});
  for (const auto& [name, values] : saved.tensors) tensors.emplace("begun_" + std::to_string(member) + "_" + name, values);
}

std::shared_ptr<const Saved> begun_in(int64_t member, const Json& json, const Tensors& tensors) {
  Saved saved{json.at("run"), {}};
  integer_in(saved.content, "step", 0, INT64_MAX);
  const std::string prefix = "begun_" + std::to_string(member) + "_";
  for (auto at = tensors.lower_bound(prefix); at != tensors.end() && at->first.starts_with(prefix); ++at)
    saved.tensors.emplace(at->first.substr(prefix.size()), at->second);
  return std::make_shared<const Saved>(std::move(saved));
}

}  // namespace

void Ensemble::save(const std::string& path) const {
  Json run{{"task", name_}, {"task_given", task_ != nullptr}, {"options", to_json(options_.values())}, {"seconds", seconds_}};
  run["axes"] = Json::array();
  for (const Axis& axis : axes_) {
    Json values = Json::object();
    for (size_t i = 0; i < axis.values.size(); ++i) values[std::to_string(i)] = to_json({{axis.key, axis.values[i]}})[axis.key];
    run["axes"].push_back({{"key", axis.key}, {"values", values}});
  }
  Json members = Json::array(), columns = Json::array();
  Tensors tensors;
  std::map<std::string, size_t> known;  // members have few different lists of columns
  for (int64_t i = 0; i < count(); ++i) {
    const Member& m = member(i);
    if (!m.ended()) continue;
    Json json{{"member", i}, {"status", m.status}, {"text", m.text}};
    if (m.trajectory) {
      Json list = columns_in_json(m.trajectory->columns());
      const auto [place, fresh] = known.emplace(list.dump(), columns.size());
      if (fresh) columns.push_back(std::move(list));
      json["columns"] = place->second;
      tensors.emplace("trajectory_" + std::to_string(i), m.trajectory->values());
      std::vector<double> crossings, times;
      for (const Crossing& crossing : m.crossings) {
        json["crossings"].push_back(crossing.signal);
        crossings.insert(crossings.end(), {crossing.value, static_cast<double>(crossing.step), crossing.before, crossing.after});
        times.push_back(crossing.time);
      }
      if (!crossings.empty()) {
        tensors.emplace("crossings_" + std::to_string(i), std::move(crossings));
        tensors.emplace("crossing_times_" + std::to_string(i), std::move(times));
      }
    }
    members.push_back(std::move(json));
  }
  run["members"] = std::move(members), run["columns"] = std::move(columns);
  std::map<int64_t, std::shared_ptr<const Saved>> begun;  // by member, so that the file does not depend on who trains which
  for (int64_t i = 0; i < count(); ++i)
    if (member(i).begun) begun[i] = member(i).begun;
  for (const Flight& flight : flights_)
    for (size_t i = 0; i < flight.trainers.size(); ++i) {
      if (!flight.trainers[i]) continue;
      flight.trainers[i]->settle();
      begun[flight.members[i]] = std::make_shared<const Saved>(flight.trainers[i]->saved());
    }
  for (const auto& [i, saved] : begun) add_begun(i, *saved, run, tensors);
  write_tensor_file(path, format, run, tensors);
}

std::unique_ptr<Ensemble> Ensemble::load(const std::string& path, std::shared_ptr<const Task> task) {
  try {
    Tensors tensors;
    const Json run = read_tensor_file(path, format, tensors);
    const std::string name = run.at("task");
    if (task && name != task->name())
      fail(LAMINA_E_ARGUMENT, "task is " + std::string(task->name()) + ", must be the task of the saved ensemble, a " + name);
    if (!task && run.at("task_given").get<bool>()) fail(LAMINA_E_ARGUMENT, "task is NULL, must be the host's own task, which is not in the file");
    auto ensemble = std::make_unique<Ensemble>(name, std::move(task), options_in(run.at("options")));
    for (const Json& axis : run.at("axes")) {
      std::vector<OptionValue> values;
      const std::string key = axis.at("key");
      for (size_t i = 0; i < axis.at("values").size(); ++i)
        values.push_back(options_in({{key, axis.at("values").at(std::to_string(i))}}).values().at(key));
      ensemble->vary(key, std::move(values));
    }
    for (const Json& json : run.at("members")) {
      const int64_t i = integer_in(json, "member", 0, ensemble->count() - 1);
      Member& member = ensemble->members_[static_cast<size_t>(i)];
      if (member.ended()) throw std::runtime_error("a member is there twice");
      if (json.contains("columns")) {
        const auto last = static_cast<int64_t>(run.at("columns").size()) - 1;
        auto trajectory = std::make_shared<Trajectory>(columns_in(run.at("columns").at(static_cast<size_t>(integer_in(json, "columns", 0, last)))));
        std::vector<double>& values = tensors.at("trajectory_" + std::to_string(i));
        if (values.size() % trajectory->columns().size() != 0) throw std::runtime_error("a trajectory does not fit its columns");
        trajectory->assign(std::move(values));
        member.trajectory = std::move(trajectory);
        if (json.contains("crossings")) {
          const auto times = tensors.find("crossing_times_" + std::to_string(i));
          member.crossings = crossings_in(json.at("crossings"), tensors.at("crossings_" + std::to_string(i)),
                                          times == tensors.end() ? nullptr : &times->second);
        }
      }
      member.text = json.at("text");
      member.status = static_cast<lamina_status>(integer_in(json, "status", INT32_MIN, INT32_MAX));
      if ((member.status >= 0) != (member.trajectory != nullptr) || member.status == LAMINA_STOPPED)
        throw std::runtime_error("a member's status does not fit its trajectory");
      ++ensemble->ended_, ensemble->failed_ += member.status < 0;
    }
    for (const Json& json : run.value("begun", Json::array())) {  // files of earlier versions have none
      const int64_t i = integer_in(json, "member", 0, ensemble->count() - 1);
      Member& member = ensemble->members_[static_cast<size_t>(i)];
      if ((member.ended() && member.status != LAMINA_TIME_LIMIT) || member.begun) throw std::runtime_error("a member under way is there twice");
      member.begun = begun_in(i, json, tensors);
    }
    ensemble->seconds_ = run.at("seconds");
    if (!(ensemble->seconds_ >= 0)) throw std::runtime_error("its seconds are negative");
    return ensemble;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(LAMINA_E_FORMAT, "path is " + path + ", which is not the file of an ensemble: " + error.what());
  }
}

}  // namespace lamina
