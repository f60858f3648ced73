"""What billers send by themselves: their events become news of a subscription, as a PUT tells them."""
