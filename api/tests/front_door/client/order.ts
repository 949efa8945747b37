// Places, cancels and refunds an order with the client that is typed by the shop's OpenAPI document.

import createClient from "openapi-fetch";
import type { components, paths } from "./shop.js";

type Order = components["schemas"]["Order"];

function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not given`);
  return value;
}

function check(truth: boolean, what: unknown): asserts truth {
  if (!truth) throw new Error(JSON.stringify(what));
}

const [customer, address, method, product] = ["CUSTOMER", "ADDRESS", "METHOD", "PRODUCT"].map(given);

function clientOf(token: string) {
  const headers = { Authorization: `Bearer ${token}` };
  return createClient<paths>({ baseUrl: given("BASE"), headers });
}

const shopper = clientOf(given("TOKEN"));
const admin = clientOf(given("ADMIN"));

/** A key of one request, and the wish to wait for the end of what it begins. */
function once() {
  return { "Idempotency-Key": crypto.randomUUID(), Prefer: "wait=20" };
}

async function place(): Promise<Order> {
  const added = await shopper.POST("/v1/customers/{customerId}/cart/items", {
    params: { path: { customerId: customer! } },
    body: { productId: product!, quantity: 1 },
  });
  check(added.data !== undefined, added.error);
  const placed = await shopper.POST("/v1/orders", {
    params: { header: once() },
    body: { customerId: customer!, shippingAddressId: address!, paymentMethodId: method! },
  });
  // With 202 the order would not have ended in time, and the answer would be the operation.
  check(placed.response.status === 201 && placed.data !== undefined && "orderNumber" in placed.data, placed);
  check(placed.data.status === "pending", placed.data);
  return placed.data;
}

const first = await place();
const cancelled = await shopper.POST("/v1/orders/{orderId}/cancel", {
  params: { path: { orderId: first.id }, header: once() },
  body: { reason: "changed my mind" },
});
check(cancelled.response.status === 200, cancelled);

const second = await place();
const order = { orderId: second.id };
const confirmed = await admin.POST("/v1/orders/{orderId}/confirm", { params: { path: order } });
check(confirmed.data?.status === "confirmed", confirmed);
const shipped = await admin.POST("/v1/orders/{orderId}/ship", {
  params: { path: order, header: once() },
  body: { trackingNumber: "1Z999", carrier: "UPS" },
});
check(shipped.response.status === 200, shipped);
const refunded = await admin.POST("/v1/payments/refunds", {
  params: { header: once() },
  body: { orderId: second.id, amount: { amount: "1.00", currency: "USD" } },
});
check(refunded.response.ok, refunded);

const read = await shopper.GET("/v1/orders/{orderId}", { params: { path: order } });
check(read.data !== undefined, read.error);
check(read.data.payment.refundedAmount.amount === "1.00", read.data);
const list = await shopper.GET("/v1/orders", { params: { query: { status: "cancelled" } } });
check(list.data?.items.length === 1 && list.data.items[0]!.id === first.id, list);
const unknown = await shopper.GET("/v1/orders/{orderId}", { params: { path: { orderId: crypto.randomUUID() } } });
check(unknown.error?.code === "order_not_found", unknown);
console.log("placed, cancelled and refunded", first.orderNumber, second.orderNumber);
