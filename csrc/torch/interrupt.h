// Ctrl-C in the middle of a long op.
#pragma once

namespace isample {

// To be called from Python once, with the GIL held.
void find_main_thread();

// Runs the handlers of the signals that have come in, as Python does between two of its own
// instructions; throws what they raise. Does nothing but in Python's main thread, which alone
// handles signals. An op calls it where no state is half changed, and not with the GIL's owner
// waiting for it.
void look_for_signals();

}  // namespace isample
