#include "interrupt.h"

#include <torch/csrc/Exceptions.h>
#include <torch/extension.h>

namespace isample {
namespace {

unsigned long main_thread = 0;

}  // namespace

void find_main_thread() {
  main_thread = pybind11::module_::import("threading")
                    .attr("main_thread")()
                    .attr("ident")
                    .cast<unsigned long>();
}

void look_for_signals() {
  if (PyThread_get_thread_ident() != main_thread || !Py_IsInitialized()) return;
  const pybind11::gil_scoped_acquire gil;  // torch lets go of it for the time of an op
  if (PyErr_CheckSignals() == 0) return;
  python_error error;
  error.persist();
  throw error;
}

}  // namespace isample
