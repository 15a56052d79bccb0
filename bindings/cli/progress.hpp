// What a run tells while it lasts: one line redrawn on a terminal, a few plain lines elsewhere, nothing if quiet.
#pragma once
#include "interruption.hpp"
#include "lamina/lamina.h"

namespace cli {

class Progress {
 public:
  // Attaches itself to the trainer and lets `saves` look; both must outlive its runs.
  Progress(lamina_trainer* trainer, bool quiet, PeriodicSave& saves);
  // Ends the redrawn line, if there is one.
  void finish();

 private:
  void tell(const lamina_progress& at);

  PeriodicSave& saves_;
  bool terminal_ = false, quiet_ = false, drawn_ = false;
  double next_ = 1;  // the second of the next plain line
};

}  // namespace cli
