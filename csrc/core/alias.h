// An alias table that is exact and can be built in parallel: every entry is a closed form of three
// prefix sums.
//
//     item        0        1        2        3           a_i = n * k_i, and every bucket holds K =
//     S k
//              +------+ +------+ +------+ +------+
//     K  ----- | heavy| | lent | |heavy | | lent |       heavy: a_i >= K. It keeps its bucket or
//     lends part of it on.
//              |      | |------| |      | |------|       light: a_i <  K. The rest of its bucket is
//              an alias to a heavy. |      | | own  | |      | | own  |
//              +------+ +------+ +------+ +------+
//
// Lay the deficits K - a of the lights, in order, along a line, and the excesses a - K of the
// heavies along the same line: both are equally long. With H[r] the r-th heavy, E[r] its inclusive
// excess, D[l] the exclusive deficit of the l-th light (D has one entry more, the whole):
//
//     light l:  threshold = a_i                      alias = H[first j with E[j] > D[l]]
//     heavy r:  m = first with D[m] >= E[r]
//               threshold = K + E[r] - D[m]          alias = H[min(r + 1, last)]
//
// A light whose deficit begins inside heavy r's excess is served by r alone; where it reaches past
// r's end, r gives more than it has, and takes the difference from the next heavy: that is its own
// threshold below K. So each heavy keeps K + E[r] - E[r-1] = a exactly, and a zero score has
// threshold 0 and is nobody's alias: it cannot be drawn.
#pragma once

#include "distribution.h"
#include "host_device.h"

namespace isample {

struct AliasBucket {
  int64_t threshold;
  int32_t alias;
};

// One term, or a sum of terms, of the scan over the items.
struct AliasScan {
  int64_t heavies = 0, excess = 0, deficit = 0;

  ISAMPLE_HD void add(const AliasScan& other) {
    heavies += other.heavies;
    excess += other.excess;
    deficit += other.deficit;
  }
};

ISAMPLE_HD bool is_heavy(int32_t mass, int64_t total, int64_t n) { return n * mass >= total; }

ISAMPLE_HD AliasScan alias_term(int32_t mass, int64_t total, int64_t n) {
  const int64_t surplus = n * mass - total;
  return surplus >= 0 ? AliasScan{1, surplus, 0} : AliasScan{0, 0, -surplus};
}

// `heavy_excess` E and `heavy_item` H have `heavies` entries.
ISAMPLE_HD AliasBucket light_bucket(int32_t mass, int64_t n, int64_t deficit_before,
                                    const int64_t* heavy_excess, const int32_t* heavy_item,
                                    int64_t heavies) {
  return {n * mass, heavy_item[first_above(heavy_excess, heavies, deficit_before)]};
}

// `light_deficit` D has lights + 1 entries, the first of them 0.
ISAMPLE_HD AliasBucket heavy_bucket(int64_t rank, int64_t total, const int64_t* heavy_excess,
                                    const int32_t* heavy_item, int64_t heavies,
                                    const int64_t* light_deficit, int64_t lights) {
  const int64_t excess = heavy_excess[rank];
  const int64_t reach = light_deficit[first_above(light_deficit, lights + 1, excess - 1)];
  const int64_t next = rank + 1 < heavies ? rank + 1 : heavies - 1;
  return {total + (excess - reach), heavy_item[next]};
}

// Draws with two random words: a bucket from x, and from y the side of its threshold.
ISAMPLE_HD int64_t pick_bucket(uint64_t x, int64_t n) {
  return static_cast<int64_t>(mulhi(x, static_cast<uint64_t>(n)));
}

ISAMPLE_HD int64_t pick_side(uint64_t y, int64_t bucket, AliasBucket entry, int64_t total) {
  const int64_t height = static_cast<int64_t>(mulhi(y, static_cast<uint64_t>(total)));
  return height < entry.threshold ? bucket : entry.alias;
}

// The draw of an item with its weight. A stored table may be anyone's: what no table of ours gives
// shows as item 0 with weight NaN, as scores that are not valid do.
struct WeighedItem {
  int64_t item;
  float weight;
};

ISAMPLE_HD WeighedItem weighed(const int32_t* mass, int64_t item, int64_t total, int64_t n) {
  if (item < 0 || item >= n || mass[item] <= 0 || total <= 0) return {0, NAN};
  return {item, importance_weight(mass[item], total, n)};
}

}  // namespace isample
