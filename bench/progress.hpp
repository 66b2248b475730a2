// Progress: a line on a terminal, with others below it, that is written over, and gone at the end. Nothing elsewhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace orlop::bench {

class Progress {
 public:
  Progress();
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` in [0, 1].
  void show(double done, std::string_view text, const std::vector<std::string>& below = {});
  // Before something else is printed.
  void clear();

 private:
  bool is_terminal_;
  bool is_shown_ = false;
  std::size_t below_count_ = 0;
};

}  // namespace orlop::bench
