// From prompts of tokens to the classes and groups of tied_prompts.hpp; prompts that agree in all of it are merged.
#include "model/tied_prompts.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_map>

namespace lamina {
namespace {

// Reads one prompt at a time into `prompt` and `groups`, reusing its buffers.
class Reader {
 public:
  Reader(const RecallLaw& law, const Construction& construction, const std::array<bool, classes>& active)
      : law_(law), construction_(construction), active_(active), tau_(static_cast<int32_t>(law.vocabulary)),
        trigger_index_(law.vocabulary + 1, -1), counts_((law.vocabulary + 1) * classes), touched_(law.vocabulary + 1) {
    for (size_t i = 0; i < law.triggers.size(); ++i) trigger_index_[law.triggers[i]] = static_cast<int32_t>(i);
  }

  TiedPrompt prompt;
  int label_slot = 0;  // of label_weight
  std::vector<TokenGroup> groups;

  void read(std::span<const int32_t> z, int32_t label, int32_t answer) {
    prompt = TiedPrompt{};
    groups.clear();
    count_positions(z);
    prompt.answer_is_tau = answer == tau_;
    if (!prompt.answer_is_tau) prompt.answer = {group_key(answer), 1, false};
    group_tokens(label, answer);
    for (int32_t j : present_) std::fill_n(&counts_[j * classes], classes, 0), touched_[j] = false;
    present_.clear();
  }

 private:
  PerClass group_key(int32_t token) const {
    PerClass key;
    std::copy_n(&counts_[token * classes], classes, key.begin());
    return key;
  }

  void count_positions(std::span<const int32_t> z) {
    const int64_t K = law_.vocabulary + 1;
    const int32_t q = z.back();
    const Construction& f = construction_;
    const std::vector<double>* read[3] = {&f.f_constant, &f.f_logit, &f.f_scale};
    prompt.trigger = trigger_index_[q];
    for (size_t h = 0; h < z.size(); ++h) {
      const int32_t token = z[h], previous = h > 0 ? z[h - 1] : -1;
      const int c = (previous == q ? 0 : 2) + ((token == tau_) == (previous == q) ? 1 : 0);
      if (!active_[c]) continue;
      if (!touched_[token]) touched_[token] = true, present_.push_back(token);
      prompt.positions[c] += 1;
      counts_[token * classes + c] += 1;
      const bool written = !(f.value_skips_tau && token == tau_);
      if (token == tau_ && written) prompt.tau_value[c] += 1;
      if (!f.feed_forward || !f.reads_attention) continue;
      for (int k = 0; k < 3; ++k)
        prompt.tau_read[k][c] += (written ? (*read[k])[token] : 0) + (previous >= 0 ? (*read[k])[K + previous] : 0);
    }
    if (f.feed_forward)
      for (int k = 0; k < 3; ++k) prompt.tau_query[k] = (*read[k])[q] + (z.size() > 1 ? (*read[k])[K + z[z.size() - 2]] : 0);
  }

  // Groups of the tokens other than the answer and tau; one of them is the absent tokens.
  void group_tokens(int32_t label, int32_t answer) {
    const bool regular = answer != tau_;
    int64_t absent = tau_ - (regular ? 1 : 0), absent_below = regular ? answer : tau_;
    for (int32_t j : present_) {
      if (j == tau_ || j == answer) continue;
      --absent, absent_below -= j < answer;
      add(group_key(j), 1, j < answer);
    }
    if (absent > 0) add(PerClass{}, static_cast<double>(absent), absent_below > 0);
    std::sort(groups.begin(), groups.end(), [](const TokenGroup& a, const TokenGroup& b) { return a.count < b.count; });
    label_slot = label == tau_ ? 1 : label == answer ? 0 : 2;
    if (label_slot < 2) return;
    const PerClass key = group_key(label);
    for (size_t g = 0; g < groups.size(); ++g)
      if (groups[g].count == key) prompt.other_label = static_cast<int32_t>(g);
  }

  void add(const PerClass& count, double multiplicity, bool below) {
    for (TokenGroup& group : groups)
      if (group.count == count) {
        group.multiplicity += multiplicity;
        group.below_answer |= below;
        return;
      }
    groups.push_back({count, multiplicity, below});
  }

  const RecallLaw& law_;
  const Construction& construction_;
  const std::array<bool, classes> active_;
  const int32_t tau_;
  std::vector<int32_t> trigger_index_, present_;
  std::vector<double> counts_;   // [token, class]
  std::vector<char> touched_;
};

// All that makes two prompts equal, as bytes. Labels do not: the loss is linear in them.
std::string key_of(const TiedPrompt& p, const std::vector<TokenGroup>& groups, bool normalised) {
  std::vector<double> parts{double(p.trigger), double(p.answer_is_tau), double(p.other_label)};
  const auto append = [&](const auto& values) { parts.insert(parts.end(), std::begin(values), std::end(values)); };
  append(p.tau_value), append(p.tau_query), append(p.answer.count);
  if (normalised) append(p.positions);
  for (const PerClass& read : p.tau_read) append(read);
  for (const TokenGroup& g : groups) append(g.count), parts.push_back(g.multiplicity), parts.push_back(g.below_answer);
  return {reinterpret_cast<const char*>(parts.data()), parts.size() * sizeof(double)};
}

}  // namespace

TiedPrompts tie_prompts(const Prompts& prompts, std::span<const double> weights, const RecallLaw& law,
                        const Construction& construction, const std::array<bool, classes>& active, bool normalised) {
  TiedPrompts tied;
  std::unordered_map<std::string, size_t> known;
  // Sums of weights; of ones where the weights are equal, which is exact, unlike a sum of 1 / count.
  std::vector<PerClass> positions;
  Reader reader(law, construction, active);
  for (int64_t i = 0; i < prompts.count; ++i) {
    reader.read(prompts.row(i), prompts.label[i], prompts.answer[i]);
    const auto [entry, fresh] = known.try_emplace(key_of(reader.prompt, reader.groups, normalised), tied.prompts.size());
    if (fresh) {
      reader.prompt.first_group = static_cast<int32_t>(tied.groups.size());
      reader.prompt.group_count = static_cast<int32_t>(reader.groups.size());
      tied.prompts.push_back(reader.prompt);
      tied.groups.insert(tied.groups.end(), reader.groups.begin(), reader.groups.end());
      positions.push_back({});
    }
    TiedPrompt& merged = tied.prompts[entry->second];
    const double weight = weights.empty() ? 1.0 : weights[i];
    merged.weight += weight;
    merged.label_weight[reader.label_slot] += weight;
    for (int c = 0; c < classes; ++c) positions[entry->second][c] += weight * reader.prompt.positions[c];
  }
  for (size_t u = 0; u < tied.prompts.size(); ++u) {
    TiedPrompt& merged = tied.prompts[u];
    if (!normalised && merged.weight > 0)
      for (int c = 0; c < classes; ++c) merged.positions[c] = positions[u][c] / merged.weight;
    if (!weights.empty()) continue;
    merged.weight /= static_cast<double>(prompts.count);
    for (double& weight : merged.label_weight) weight /= static_cast<double>(prompts.count);
  }
  return tied;
}

}  // namespace lamina
