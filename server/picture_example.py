"""The picture of the description's examples."""

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAKAAAAB4AgMAAAAIzBH8AAAACVBMVEXIyMTIKCgoRsh9I2UeAAABEklEQVR42u2WPQ7CMAyF"
    "X3/YMwBzj5IjsMDM+QBxhhyFvQydulCpDG3TBBK7SAVVyG9JZH2yX+y0CiASiUT/oMTZbzTOUTD1OOwngIkGgF0MzOyuS5Zt"
    "b0zGwaziSq/7dcWB+m0TBsc2KRrMbSSnQRUcQWAyTqdLAwA4jZH6aDO6aRRV2jWWU6CK3JPgpaCVBrqs46BfTc1ReirodySf"
    "IaOKfnBfP8xk8GUWeokeBSRB4wfNEj1WXqydIWPjxZpfHsa3XxEZDTeYjz1WXBsHsOG6M4Atdxbr0TBnsWDFWLRgw1i0YMtY"
    "HPtoaIvjj/3er48hcIhkbOnKzggvXULDvntQFgCu/AMJdVkQbzORSCRatJ6zUSypPK3h6QAAAABJRU5ErkJggg=="
)
"""A red circle and a blue square, PNG, in base64."""
