#include "swap/block.hpp"

namespace orlop::swap {

std::string_view name_of(Plane plane) {
  static constexpr std::array<std::string_view, kPlaneCount> kNames = {"lo", "master", "exp_avg", "exp_avg_sq",
                                                                     "param"};
  return kNames[static_cast<std::size_t>(plane)];
}

}  // namespace orlop::swap
