"""Places two orders with the client that was generated from the shop's OpenAPI document."""

import os
import time
import uuid

from stepwise_client import AuthenticatedClient
from stepwise_client.api.customers import get_address
from stepwise_client.api.operations import get_operation
from stepwise_client.api.orders import get_order, place_order
from stepwise_client.models import Operation, OperationStatus, Order, OrderStatus, PlaceOrder

CUSTOMER, ADDRESS, METHOD = (uuid.UUID(os.environ[name]) for name in ("CUSTOMER", "ADDRESS", "METHOD"))


def code(answer):
    """The code of a problem, of whatever class the generator has made for its status."""
    return answer.to_dict()["code"]


def main():
    client = AuthenticatedClient(base_url=os.environ["BASE"], token=os.environ["TOKEN"])
    address = get_address.sync(client=client, customer_id=CUSTOMER, address_id=ADDRESS)
    assert address.id == ADDRESS, address
    body = PlaceOrder(customer_id=CUSTOMER, shipping_address_id=ADDRESS, payment_method_id=METHOD)

    operation = place_order.sync(client=client, body=body, idempotency_key=str(uuid.uuid4()))
    assert isinstance(operation, Operation), operation
    deadline = time.monotonic() + 30
    while operation.status == OperationStatus.RUNNING:
        assert time.monotonic() < deadline, operation
        time.sleep(0.05)
        operation = get_operation.sync(client=client, operation_id=operation.id)
    assert operation.status == OperationStatus.SUCCEEDED, operation
    order = get_order.sync(client=client, order_id=uuid.UUID(operation.subject))
    assert isinstance(order, Order) and order.status == OrderStatus.PENDING, order
    assert order.payment.amount.amount == order.total_amount.amount, order

    # The cart is empty by now.
    refused = place_order.sync(client=client, body=body, idempotency_key=str(uuid.uuid4()))
    assert code(refused) == "cart_empty", refused
    unknown = get_order.sync(client=client, order_id=uuid.uuid4())
    assert code(unknown) == "order_not_found", unknown
    print("placed", order.order_number)


main()
