CREATE TABLE vendors (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  open INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY,
  status TEXT NOT NULL DEFAULT 'PENDING',
  vendor_id INTEGER REFERENCES vendors (id),
  payment_method TEXT NOT NULL,
  amount NUMERIC NOT NULL,
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
);
CREATE INDEX orders_status_updated_at ON orders (status, updated_at);
CREATE TABLE refunds (
  order_id INTEGER PRIMARY KEY REFERENCES orders (id),
  amount NUMERIC NOT NULL
);
INSERT INTO vendors (id, name) VALUES (1, 'Ada'), (2, 'Bea');
INSERT INTO orders (id, vendor_id, payment_method, amount, updated_at) VALUES
  (123, 1, 'CARD', 19.90, strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', '-45 minutes')),
  (124, 1, 'CREDIT', 5.00, strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'));
