// Whether a stored table, which may be anyone's, is what alias_table or prefix_sum makes. Draws
// from it take that for granted. By torch's ops, on whichever device the table is, with one
// readback.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <limits>
#include <string_view>
#include <vector>

#include "checks.h"

namespace isample {
namespace {

struct Rule {
  const char* argument;
  const at::Tensor& values;
  at::Tensor broken;  // bool, of the shape of `values`
  const char* rule;
};

// Raises for the first rule that is broken, with the first value that breaks it.
void check_rules(const std::vector<Rule>& rules, const char* maker) {
  std::vector<at::Tensor> any;
  for (const Rule& rule : rules) any.push_back(rule.broken.any());
  const at::Tensor found = at::stack(any).cpu();
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!found[static_cast<int64_t>(i)].item<bool>()) continue;
    const int64_t place = rules[i].broken.flatten().to(at::kByte).argmax().item<int64_t>();
    const int64_t value = rules[i].values.flatten()[place].item<int64_t>();
    TORCH_CHECK_VALUE(false, rules[i].argument, " ", rules[i].rule, ", got ", value, " at ", place,
                      ": make the table with isample.", maker);
  }
}

// The share of its bucket that an item keeps and what other buckets lend it are its probability,
// n * mass, of n * total.
void check_alias_table(const at::Tensor& threshold, const at::Tensor& alias, const at::Tensor& mass,
                       const at::Tensor& total) {
  check_table(threshold, alias, mass, total);
  const int64_t n = threshold.size(0);
  const at::Tensor lent =
      at::zeros_like(threshold).index_add_(0, alias.clamp(0, n - 1), total.sub(threshold));
  check_rules(
      {{"total", total, total.le(0).logical_or_(total.gt(std::numeric_limits<int64_t>::max() / n)),
        "must be above 0 and at most 2^63 / N"},
       {"mass", mass, mass.lt(0), "must not be negative"},
       {"total", total, total.ne(mass.sum()), "must be the sum of mass"},
       {"threshold", threshold, threshold.lt(0).logical_or_(threshold.gt(total)),
        "must lie in [0, total]"},
       {"alias", alias, alias.lt(0).logical_or_(alias.ge(n)), "must lie in [0, N)"},
       {"mass", mass, threshold.add(lent).ne(mass.to(at::kLong).mul(n)),
        "must be the share of the draws that threshold and alias give each item"}},
      "alias_table");
}

void check_sums(const at::Tensor& sums) {
  check_prefix_sums(sums);
  const at::Tensor before = at::constant_pad_nd(sums, {1, 0}).slice(0, 0, -1);
  const at::Tensor last = sums.slice(0, -1);
  check_rules({{"sums", sums, sums.lt(before), "must ascend from 0 on"},
               {"sums", sums, sums.sub(before).gt(std::numeric_limits<int32_t>::max()),
                "must ascend by less than 2^31 an item"},
               {"the last of sums", last, last.le(0), "must be above 0"}},
              "prefix_sum");
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("_check_table", &check_alias_table);
  m.impl("_check_prefix_sums", &check_sums);
}

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("_check_table", &check_alias_table);
  m.impl("_check_prefix_sums", &check_sums);
}

}  // namespace isample
