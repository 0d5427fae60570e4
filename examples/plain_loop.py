"""An ordinary PyTorch training loop, drawn by importance: the lines marked + are what is new.

python examples/plain_loop.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample  # +

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
inputs = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
data = TensorDataset(inputs, torch.tensor(labels))
loader = DataLoader(data, batch_size=64, shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
engine = isample.Engine(optimizer, head=model[-1])  # +
loader = engine.loader(loader)  # +

for epoch in range(20):
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: loss of what was drawn {total / len(loader):.4f}")
print(f"{engine.history.active_share:.0%} of the steps were drawn by importance")
