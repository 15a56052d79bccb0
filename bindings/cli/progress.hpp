// What a run tells while it lasts: one line redrawn on a terminal, a few plain lines elsewhere, nothing if quiet.
#pragma once
#include "lamina/lamina.h"

namespace cli {

class Progress {
 public:
  // Attaches itself to the trainer; must outlive its runs.
  Progress(lamina_trainer* trainer, bool quiet);
  // Ends the redrawn line, if there is one.
  void finish();

 private:
  void tell(const lamina_progress& at);

  bool terminal_ = false, drawn_ = false;
  double next_ = 1;  // the second of the next plain line
};

}  // namespace cli
