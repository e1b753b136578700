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
const double PULL = 0.2;

vector<int> order() {
    vector<int> result;
    for (int i = 1; i < (int)points.size(); i++) result.push_back(i);
    return result;
}

vector<vector<int>> split(const vector<int>& stops) {
    vector<vector<int>> routes;
    int room = 0;
    for (int s : stops) {
        if (points[s].load > room) routes.push_back({}), room = capacity;
        routes.back().push_back(s);
        room -= points[s].load;
    }
    return routes;
}

void polish(vector<int>& route) {
    return;
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
