// CudaContext: the primary context of one device, made current for the length of a scope.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "base/result.hpp"

namespace orlop::device {

class CudaContext {
 public:
  static Result<CudaContext> open(int index);

  // While it lives, the calling thread works on our device; then on what it worked on before, be it none.
  // cudaSetDevice could not put "none" back: it would open a context, with hundreds of MiB, on device 0 for
  // every rank.
  class Scope {
   public:
    Scope(Scope&& other) noexcept;
    Scope& operator=(Scope&&) = delete;
    ~Scope();

   private:
    friend class CudaContext;
    Scope(const CudaContext& context, CUcontext before) : context_(&context), before_(before) {}
    const CudaContext* context_;
    CUcontext before_;
  };
  [[nodiscard]] Result<Scope> enter() const;

 private:
  using Get = CUresult (*)(CUcontext*);
  using Set = CUresult (*)(CUcontext);

  CudaContext(int index, CUcontext handle, Get get, Set set)
      : index_(index), handle_(handle), get_(get), set_(set) {}

  int index_;
  CUcontext handle_;
  // From the driver, which is not linked.
  Get get_;
  Set set_;
};

}  // namespace orlop::device
