"""Places, cancels and refunds orders with the client that was generated from the shop's OpenAPI document."""

import os
import time
import uuid

from stepwise_client import AuthenticatedClient
from stepwise_client.api.carts import add_item_to_cart
from stepwise_client.api.customers import get_address
from stepwise_client.api.operations import get_operation
from stepwise_client.api.orders import cancel_order, confirm_order, get_order, place_order, ship_order
from stepwise_client.api.payments import refund_payment
from stepwise_client.models import (
    AddItemToCart,
    CancelOrder,
    Cart,
    Money,
    Operation,
    OperationStatus,
    Order,
    OrderStatus,
    PlaceOrder,
    RefundPayment,
    ShipOrder,
)

CUSTOMER, ADDRESS, METHOD, PRODUCT = (
    uuid.UUID(os.environ[name]) for name in ("CUSTOMER", "ADDRESS", "METHOD", "PRODUCT")
)
SHOPPER, ADMIN = (
    AuthenticatedClient(base_url=os.environ["BASE"], token=os.environ[name]) for name in ("TOKEN", "ADMIN")
)
BODY = PlaceOrder(customer_id=CUSTOMER, shipping_address_id=ADDRESS, payment_method_id=METHOD)


def code(answer):
    """The code of a problem, of whatever class the generator has made for its status."""
    return answer.to_dict()["code"]


def key():
    return str(uuid.uuid4())


def ended(client, operation):
    """Waits until the operation has succeeded, and returns it."""
    assert isinstance(operation, Operation), operation
    deadline = time.monotonic() + 30
    while operation.status == OperationStatus.RUNNING:
        assert time.monotonic() < deadline, operation
        time.sleep(0.05)
        operation = get_operation.sync(client=client, operation_id=operation.id)
    assert operation.status == OperationStatus.SUCCEEDED, operation
    return operation


def placed():
    """Puts a product into the cart and orders it."""
    item = AddItemToCart(product_id=PRODUCT, quantity=1)
    cart = add_item_to_cart.sync(client=SHOPPER, customer_id=CUSTOMER, body=item)
    assert isinstance(cart, Cart), cart
    operation = ended(SHOPPER, place_order.sync(client=SHOPPER, body=BODY, idempotency_key=key()))
    order = get_order.sync(client=SHOPPER, order_id=uuid.UUID(operation.subject))
    assert isinstance(order, Order) and order.status == OrderStatus.PENDING, order
    assert order.payment.amount.amount == order.total_amount.amount, order
    return order


def main():
    address = get_address.sync(client=SHOPPER, customer_id=CUSTOMER, address_id=ADDRESS)
    assert address.id == ADDRESS, address

    first = placed()
    why = CancelOrder(reason="changed my mind")
    ended(SHOPPER, cancel_order.sync(client=SHOPPER, order_id=first.id, body=why, idempotency_key=key()))
    assert get_order.sync(client=SHOPPER, order_id=first.id).status == OrderStatus.CANCELLED

    second = placed()
    confirmed = confirm_order.sync(client=ADMIN, order_id=second.id)
    assert confirmed.status == OrderStatus.CONFIRMED, confirmed
    parcel = ShipOrder(tracking_number="1Z999", carrier="UPS")
    ended(ADMIN, ship_order.sync(client=ADMIN, order_id=second.id, body=parcel, idempotency_key=key()))
    refund = RefundPayment(order_id=second.id, amount=Money(amount="1.00", currency="USD"))
    ended(ADMIN, refund_payment.sync(client=ADMIN, body=refund, idempotency_key=key()))
    refunded = get_order.sync(client=SHOPPER, order_id=second.id)
    assert refunded.payment.refunded_amount.amount == "1.00", refunded

    # The cart is empty by now.
    refused = place_order.sync(client=SHOPPER, body=BODY, idempotency_key=key())
    assert code(refused) == "cart_empty", refused
    unknown = get_order.sync(client=SHOPPER, order_id=uuid.uuid4())
    assert code(unknown) == "order_not_found", unknown
    print("placed, cancelled and refunded", first.order_number, second.order_number)


main()
