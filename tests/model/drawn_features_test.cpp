// Prompts on features that the task counts as it draws them are those that it writes out, to the bit, on every number of threads.
#include <gtest/gtest.h>

#include "support/runs.hpp"

namespace lamina {
namespace {

using namespace tests;

struct Case {
  const char *task, *model;
};
const Case cases[] = {
    {"features=6 dimension=8 prompt_length=60", ""},
    {"features=20 prompt_length=20 mask=no", ""},
    {"features=5 prompt_length=1001 dominant=0.6", "attention=relu"},
    {"features=3 prompt_length=3 second_moments=2,1,0,1,2,1,0,1,2", ""},
    {"features=7 prompt_length=101 feature_law=zipf", "attention=linear"},
    {"features=70 prompt_length=90", ""},    // more than are drawn as counts
    {"features=30 prompt_length=10", ""},  // shorter than there are features: no blocks
};

TEST(DrawnFeatures, HaveTheBitsOfWrittenOnes) {
  const TaskRow& row = find_task("in_context_convergence");
  for (const Case& c : cases) {
    const auto task = row.create(Settings(row.options, options_of(c.task), row.defaults));
    const auto model = make_model(*task, Settings(model_options(), options_of(c.model), row.defaults));
    std::vector<double> Q(model->parameters().size());
    for (size_t i = 0; i < Q.size(); ++i) Q[i] = 0.1 * static_cast<double>(i % 13) - 0.4;
    model->set_parameters(Q);
    for (const bool averaged : {false, true}) {
      for (const int threads : {1, 3}) {
        const Team team(threads);
        Prompts memory;
        std::unique_ptr<CompiledPrompts> drawn;
        for (const int64_t first : {0, 300, 301}) {
          const int64_t count = first == 300 ? 1 : 300;  // memory is used again, for fewer and for more
          Prompts written;
          task->sample(Split::train, 5, first, count, written);
          if (averaged) written.values.clear();
          std::vector<double> expected(Q.size()), gradient(Q.size());
          const Loss loss = model->loss_and_gradient(*model->compile(written, {}, Team(1)), Team(1), expected.data(), true);
          drawn = model->draw(*task, {5, first, count, averaged}, team, memory, std::move(drawn));
          EXPECT_EQ(model->loss_and_gradient(*drawn, team, gradient.data(), true).loss, loss.loss) << c.task << " " << first;
          EXPECT_EQ(gradient, expected) << c.task << " " << first;
          EXPECT_GT(loss.loss, 0);
          EXPECT_EQ(memory.tokens.empty(), task->features()->features <= task->features()->length) << "tokens were written";
        }
      }
    }
  }
}

}  // namespace
}  // namespace lamina
