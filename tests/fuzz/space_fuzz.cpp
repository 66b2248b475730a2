#include "../swap/space_fuzz.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string broken = orlop::swap::fuzz_space({data, size});
  if (broken.empty()) return 0;
  std::fprintf(stderr, "fuzz_space: %s\n", broken.c_str());
  std::abort();
}
