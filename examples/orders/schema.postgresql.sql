CREATE TABLE vendors (
  id integer PRIMARY KEY,
  name text NOT NULL,
  open boolean NOT NULL DEFAULT true
);
CREATE TABLE orders (
  id integer PRIMARY KEY,
  status text NOT NULL DEFAULT 'PENDING',
  vendor_id integer REFERENCES vendors (id),
  payment_method text NOT NULL,
  amount numeric(10, 2) NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_status_updated_at ON orders (status, updated_at);
CREATE TABLE refunds (
  order_id integer PRIMARY KEY REFERENCES orders (id),
  amount numeric(10, 2) NOT NULL
);
INSERT INTO vendors (id, name) VALUES (1, 'Ada'), (2, 'Bea');
INSERT INTO orders (id, vendor_id, payment_method, amount, updated_at) VALUES
  (123, 1, 'CARD', 19.90, now() - interval '45 minutes'),
  (124, 1, 'CREDIT', 5.00, now());
