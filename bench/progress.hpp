// Progress: one line on a terminal that is written over, and gone at the end. Nothing elsewhere.
#pragma once

#include <string>
#include <string_view>

namespace orlop::bench {

class Progress {
 public:
  Progress();
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` in [0, 1].
  void show(double done, std::string_view text);
  // Before something else is printed.
  void clear();

 private:
  bool is_terminal_;
  bool is_shown_ = false;
};

}  // namespace orlop::bench
