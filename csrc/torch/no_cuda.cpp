// In a build without CUDA, what an op says to tensors that are there.
#include "no_cuda.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <string>
#include <string_view>

#include "build_info.h"

namespace isample {
namespace {

void refuse(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack*) {
  const std::string reason = ISAMPLE_WHY_NO_CUDA;
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, op.schema().operator_name(),
      " got tensors on CUDA, and this isample was built without",
      reason.empty() ? "" : ": " + reason,
      " (install the CUDA toolkit and build isample again with ISAMPLE_CUDA=1, or move the tensors "
      "to the CPU)");
}

}  // namespace

void refuse_cuda() {
  if (!std::string_view(ISAMPLE_CUDA_ARCHITECTURES).empty()) return;
  auto& dispatcher = c10::Dispatcher::singleton();
  static torch::Library library(torch::Library::IMPL, "isample", c10::DispatchKey::CUDA, __FILE__,
                                __LINE__);
  for (const auto& name : dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CPU)) {
    if (name.getNamespace() != "isample") continue;
    if (dispatcher.findOp(name)->hasKernelForDispatchKey(c10::DispatchKey::CUDA)) continue;
    const std::string op =
        name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
    library.impl(op.c_str(), torch::CppFunction::makeFromBoxedFunction<&refuse>());
  }
}

}  // namespace isample
