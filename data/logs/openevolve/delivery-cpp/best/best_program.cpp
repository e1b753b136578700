// Deliver to 40 customers with vans of limited load; the depot is point 0.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>
using namespace std;

struct Point { double x, y; int load; };
vector<Point> points;
int capacity;

double gap(int a, int b) { return hypot(points[a].x - points[b].x, points[a].y - points[b].y); }

// EVOLVE-BLOCK-START
const int SEED = 1;
const int PASSES = 1;
const double PULL = 0.6078;

vector<int> order() {
    vector<int> result;
    for (int i = 1; i < (int)points.size(); i++) result.push_back(i);
    return result;
}

vector<vector<int>> split(const vector<int>& stops) {
    vector<vector<int>> routes;
    vector<int> used;
    for (int s : stops) routes.push_back({s}), used.push_back(points[s].load);
    while (true) {
        double best = 1e-9;
        int from = -1, to = -1;
        for (int a = 0; a < (int)routes.size(); a++) for (int b = 0; b < (int)routes.size(); b++) {
            if (a == b || used[a] + used[b] > capacity) continue;
            int x = routes[a].back(), y = routes[b].front();
            double saved = gap(x, 0) + gap(0, y) - PULL * gap(x, y);
            if (saved > best) best = saved, from = a, to = b;
        }
        if (from < 0) return routes;
        routes[from].insert(routes[from].end(), routes[to].begin(), routes[to].end());
        used[from] += used[to];
        routes.erase(routes.begin() + to);
        used.erase(used.begin() + to);
    }
}

void polish(vector<int>& route) {
    int n = route.size();
    auto at = [&](int i) { return i < 0 || i >= n ? 0 : route[i]; };
    for (int k = 0; k < PASSES; k++)
        for (int i = 0; i < n; i++) for (int j = i + 1; j < n; j++)
            if (gap(at(i - 1), at(j)) + gap(at(i), at(j + 1)) + 1e-9 < gap(at(i - 1), at(i)) + gap(at(j), at(j + 1)))
                reverse(route.begin() + i, route.begin() + j + 1);
}
// EVOLVE-BLOCK-END

int main() {
    int n;
    if (scanf("%d %d", &n, &capacity) != 2) return 1;
    points.resize(n);
    for (auto& p : points) if (scanf("%lf %lf %d", &p.x, &p.y, &p.load) != 3) return 1;
    for (auto& route : split(order())) {
        polish(route);
        for (int s : route) printf("%d ", s);
        printf("\n");
    }
}
