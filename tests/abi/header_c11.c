/* The header compiles alone as C11, and a C program links and runs with it. */
#include "orlop/orlop.h"

#include <string.h>

int main(void) {
  const uint32_t expected = (ORLOP_VERSION_MAJOR << 16) | (ORLOP_VERSION_MINOR << 8) | ORLOP_VERSION_PATCH;
  if (orlop_version() != expected) return 1;
  if (strcmp(orlop_status_name(ORLOP_CORRUPT), "ORLOP_CORRUPT") != 0) return 2;
  if (orlop_build_info() == NULL || orlop_build_info()[0] != '{') return 3;
  return 0;
}
