// What the host's compiler and nvcc both compile, for the host and for devices.
#pragma once

#if defined(__CUDACC__)
#define ORLOP_ELEMENT __host__ __device__ inline
#else
#define ORLOP_ELEMENT inline
#endif
