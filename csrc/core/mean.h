// The mean of a batch's weighted losses, over its rows or over what its labels count.
#pragma once

#include "host_device.h"

namespace isample {

struct MeanSums {
  double loss = 0.0;   // S w_i L_i
  double count = 0.0;  // of the labels that are not ignored, by their class weights

  ISAMPLE_HD void add(const MeanSums& other) {
    loss += other.loss;
    count += other.count;
  }
  // Over the rows; NaN of none.
  ISAMPLE_HD double mean(int64_t rows) const { return loss / static_cast<double>(rows); }
  // What makes of a mean over rows one over what counts: of nothing that counts it is 0.
  ISAMPLE_HD double ratio(int64_t rows) const {
    return static_cast<double>(rows) / at_least_tiny(count);
  }
};

}  // namespace isample
