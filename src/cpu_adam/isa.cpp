#include <array>
#include <cstdlib>
#include <string>

#include "cpu_adam/adam.hpp"
#include "cpu_adam/dispatch.hpp"

#if defined(ORLOP_X86_KERNELS)
#include <cpuid.h>
#endif

namespace orlop::cpu_adam {
namespace {

constexpr std::array kIsas = {Isa::scalar, Isa::avx2, Isa::avx512};

#if defined(ORLOP_X86_KERNELS)

// Registers that the operating system saves and restores: XCR0.
std::uint64_t saved_registers() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0) return 0;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

constexpr std::uint64_t kYmmState = 0x06;                // xmm, upper ymm
constexpr std::uint64_t kZmmState = kYmmState | 0xe0;    // opmask, upper zmm 0-15, zmm 16-31

bool all_set(std::uint64_t value, std::uint64_t bits) { return (value & bits) == bits; }

bool has_avx2() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!all_set(saved_registers(), kYmmState) || __get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return false;
  if (!all_set(ecx, bit_AVX | bit_FMA | bit_F16C)) return false;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && all_set(ebx, bit_AVX2);
}

bool has_avx512() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx2() || !all_set(saved_registers(), kZmmState)) return false;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 &&
         all_set(ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ);
}

#else

bool has_avx2() { return false; }
bool has_avx512() { return false; }

#endif

bool is_usable(Isa isa) {
  switch (isa) {
    case Isa::avx2: return has_avx2();
    case Isa::avx512: return has_avx512();
    case Isa::scalar: break;
  }
  return true;
}

std::string names_of_usable() {
  std::string names;
  for (const Isa isa : usable_isas()) names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
  return names;
}

Result<Isa> forced_isa(std::string_view name) {
  for (const Isa isa : kIsas) {
    if (name != name_of(isa)) continue;
    if (is_usable(isa)) return isa;
    return fail(ORLOP_UNSUPPORTED,
                "ORLOP_CPU: {}: this processor or operating system does not offer it; usable here: {}", name,
                names_of_usable());
  }
  return fail(ORLOP_INVALID_ARGUMENT, "ORLOP_CPU: '{}': no such instruction set; one of scalar, avx2, avx512", name);
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "unknown";
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> usable;
  for (const Isa isa : kIsas) {
    if (is_usable(isa)) usable.push_back(isa);
  }
  return usable;
}

Result<Isa> select_isa() {
  if (const char* name = std::getenv("ORLOP_CPU"); name != nullptr && *name != '\0') return forced_isa(name);
  return usable_isas().back();
}

const KernelTable& kernels_of(Isa isa) {
#if defined(ORLOP_X86_KERNELS)
  if (isa == Isa::avx512) return kAvx512Kernels;
  if (isa == Isa::avx2) return kAvx2Kernels;
#endif
  (void)isa;
  return kScalarKernels;
}

}  // namespace orlop::cpu_adam
