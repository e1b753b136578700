// Choose among 60 items under 3 limits; the value counts.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>
using namespace std;

struct Item { double value; double cost[3]; };
vector<Item> items;
double limits[3];

// EVOLVE-BLOCK-START
const int SEED = 985;
const int STEPS = 13599;
const double POWER = 0.1282;
const int DROP = 4;

double appeal(int i) {
    double cost = 0;
    for (int k = 0; k < 3; k++) cost += items[i].cost[k] / limits[k];
    return items[i].value / (POWER * 0.05 + cost);
}

vector<int> fill(vector<int> chosen, const vector<int>& order) {
    double used[3] = {0, 0, 0};
    for (int i : chosen) for (int k = 0; k < 3; k++) used[k] += items[i].cost[k];
    for (int i : order) {
        if (find(chosen.begin(), chosen.end(), i) != chosen.end()) continue;
        bool fits = true;
        for (int k = 0; k < 3; k++) fits = fits && used[k] + items[i].cost[k] <= limits[k];
        if (!fits) continue;
        chosen.push_back(i);
        for (int k = 0; k < 3; k++) used[k] += items[i].cost[k];
    }
    return chosen;
}

vector<int> search(vector<int> chosen, vector<int> order) {
    mt19937 rng(SEED);
    auto worth = [](const vector<int>& c) { double v = 0; for (int i : c) v += items[i].value; return v; };
    for (int k = 0; k < STEPS / 10; k++) {
        vector<int> other = chosen;
        shuffle(other.begin(), other.end(), rng);
        other.resize(max(0, (int)other.size() - DROP));
        shuffle(order.begin(), order.end(), rng);
        other = fill(other, order);
        if (worth(other) >= worth(chosen)) chosen = other;
    }
    return chosen;
}
// EVOLVE-BLOCK-END

int main() {
    int n;
    if (scanf("%d %lf %lf %lf", &n, limits, limits + 1, limits + 2) != 4) return 1;
    items.resize(n);
    for (auto& i : items) if (scanf("%lf %lf %lf %lf", &i.value, i.cost, i.cost + 1, i.cost + 2) != 4) return 1;
    vector<int> order(n);
    iota(order.begin(), order.end(), 0);
    sort(order.begin(), order.end(), [](int a, int b) { return appeal(a) > appeal(b); });
    for (int i : search(fill({}, order), order)) printf("%d\n", i);
}